/* tls_fast.bpf.c - the TLS hook with may_goto loops instead of bpf_loop: kernels from 6.9 on. */
#define WEIR_FAST
#include "tls.bpf.c"
