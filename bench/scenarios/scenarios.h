/* SPDX-License-Identifier: MIT */
/*
 * scenarios.h: the function of each subcommand. Each returns one of EXIT_...
 */
#ifndef DGPERF_SCENARIOS_H
#define DGPERF_SCENARIOS_H

#include "bench/harness/plan.h"

int stream_main(const struct plan *plan);
int collect_main(const struct plan *plan);
int echo_main(const struct plan *plan);
int respond_main(const struct plan *plan);
int ping_main(const struct plan *plan);
int peers_main(const struct plan *plan);
int send_main(const struct plan *plan);
int recv_main(const struct plan *plan);

#endif
