/* meter_fast.bpf.c - the meter with may_goto loops instead of bpf_loop: kernels from 6.9 on. */
#define WEIR_FAST
#include "meter.bpf.c"
