/*
 * agent_key.h - the secret under which API keys and prompts are hashed, so that neither can be guessed from a record.
 */
#ifndef WEIR_CMD_AGENT_KEY_H
#define WEIR_CMD_AGENT_KEY_H

#include "base/util.h"

#define AGENT_KEY_BYTES 16 /* SipHash */
#define AGENT_KEY_WHY 512

/*
 * The key out of `file`, or of DIR/key; made there (mode 0600) where there is none; neither: made up for this run. A file that is not
 * a regular one of our own or root's, not of 16 bytes, or open to others is refused: -EBADMSG. 0 or negative errno, and then one line
 * in `why` that names the file.
 */
int agent_key_load(const char *dir, const char *file, uint8_t ret_key[AGENT_KEY_BYTES], char why[AGENT_KEY_WHY]);

#endif
