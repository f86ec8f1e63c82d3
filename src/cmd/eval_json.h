/* eval_json.h - jansson beside our own JSON writer, which has two functions of the same names. Jansson's two are not used. */
#ifndef WEIR_CMD_EVAL_JSON_H
#define WEIR_CMD_EVAL_JSON_H

#define json_string jansson_string
#define json_null jansson_null
#include <jansson.h>
#undef json_string
#undef json_null

#endif
