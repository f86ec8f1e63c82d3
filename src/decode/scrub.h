/*
 * scrub.h - which bytes of an HTTP/1 connection may be shown to strangers.
 *
 * Fail closed: every byte is filler until this module says otherwise. It says so for the framing, for header names and values on a list,
 * for JSON's punctuation, for field names that the decoder knows, for their numbers, booleans and short words, and for filler that
 * keeps a text's shape (length in bytes, escapes and UTF-8). What it does not understand it says nothing about. Keys and user ids
 * become others of the same length, the same ones for the same input within a run. Any split of the input gives the same bytes.
 * Looks ahead at most SCRUB_AHEAD bytes. No logging.
 */
#ifndef WEIR_DECODE_SCRUB_H
#define WEIR_DECODE_SCRUB_H

#include "base/util.h"
#include "decode/siphash.h"

#define SCRUB_FILL 'x'      /* what a byte is that nothing was said about */
#define SCRUB_AHEAD 512u    /* longest name or value that is waited for; longer ones are filler */
#define SCRUB_DEPTH_MAX 64  /* brackets in JSON; deeper ones are filler */

struct scrub_words; /* the names that are known: of the dialect table and of the automaton's */

int scrub_words_new(struct scrub_words **ret);
struct scrub_words *scrub_words_free(struct scrub_words *w);

struct scrub_opts {
	const struct scrub_words *words;
	uint8_t key[SIPHASH_KEY_BYTES]; /* of the run: what keys and user ids are replaced by */
	bool addresses;                 /* addresses in headers are to go, too */
	/* This byte of the stream of direction `dir` is to be `c`. Each at most once, in order. */
	void (*put)(void *ctx, int dir, uint64_t off, uint8_t c);
};

struct scrub;
int scrub_new(const struct scrub_opts *o, bool from_start, void *ctx, struct scrub **ret); /* *o stays the caller's and must outlive */
struct scrub *scrub_free(struct scrub *s);

/* The next bytes of a direction (enum weir_dir), at the beginning of a segment. */
void scrub_feed(struct scrub *s, int dir, const uint8_t *p, size_t n);
/* `n` bytes are missing. */
void scrub_gap(struct scrub *s, int dir, uint64_t n);
/* Up to here all is decided. */
uint64_t scrub_decided(const struct scrub *s, int dir);

#endif
