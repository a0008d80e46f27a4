/* SPDX-License-Identifier: MIT */
/* watch.h: watches of descriptors that the engine does not read. */
#ifndef DGRAM_FALLBACK_WATCH_H
#define DGRAM_FALLBACK_WATCH_H

#include "fallback/engine.h"

/* As in struct backend. */
int dg_poll_watch(struct engine *engine, struct watch *watch);
void dg_poll_unwatch(struct engine *engine, struct watch *watch);

/* Appends READY for each armed watch of the entry that wants one of `revents`, and disarms it. */
void dg_poll_fire(struct engine *engine, struct entry *entry, short revents);

/* Frees all of them, and looks at no object of the core. */
void dg_poll_watchers_free(struct engine *engine);

#endif
