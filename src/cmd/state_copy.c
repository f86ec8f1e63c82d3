#include "cmd/state_copy.h"

#include "store/store.h"

#include <pthread.h>
#include <signal.h>

struct state_copy {
	struct store *store;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t news;
	bool running, wish, stop;
};

static void *copy_run(void *ctx)
{
	struct state_copy *c = ctx;

	pthread_mutex_lock(&c->lock);
	while (!c->stop) {
		if (!c->wish) {
			pthread_cond_wait(&c->news, &c->lock);
			continue;
		}
		c->wish = false;
		pthread_mutex_unlock(&c->lock);
		store_checkpoint(c->store); /* what fails stays in the log; the next save wishes again */
		pthread_mutex_lock(&c->lock);
	}
	pthread_mutex_unlock(&c->lock);
	return NULL;
}

struct state_copy *state_copy_new(struct store *st)
{
	struct state_copy *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->store = st;
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->news, NULL);
	return c;
}

/* Signals are the loop's affair. */
static bool copy_start(struct state_copy *c)
{
	sigset_t all, before;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	c->running = pthread_create(&c->thread, NULL, copy_run, c) == 0;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return c->running;
}

void state_copy_wish(struct state_copy *c)
{
	if (!c || (!c->running && !copy_start(c)))
		return;
	pthread_mutex_lock(&c->lock);
	c->wish = true;
	pthread_cond_signal(&c->news);
	pthread_mutex_unlock(&c->lock);
}

struct state_copy *state_copy_free(struct state_copy *c)
{
	if (!c)
		return NULL;
	if (c->running) {
		pthread_mutex_lock(&c->lock);
		c->stop = true;
		pthread_cond_signal(&c->news);
		pthread_mutex_unlock(&c->lock);
		pthread_join(c->thread, NULL);
	}
	pthread_cond_destroy(&c->news);
	pthread_mutex_destroy(&c->lock);
	free(c);
	return NULL;
}
