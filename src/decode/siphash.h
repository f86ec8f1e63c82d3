/*
 * siphash.h - SipHash-2-4 (Aumasson, Bernstein 2012): a keyed hash that cannot be reversed or forged without the key.
 */
#ifndef WEIR_DECODE_SIPHASH_H
#define WEIR_DECODE_SIPHASH_H

#include "base/util.h"

#define SIPHASH_KEY_BYTES 16

uint64_t siphash(const uint8_t key[SIPHASH_KEY_BYTES], const void *data, size_t n);

#endif
