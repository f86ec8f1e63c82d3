/*
 * compiler.h - the few macros that both sides of the kernel boundary use. No types, no code.
 */
#ifndef WEIR_COMPILER_H
#define WEIR_COMPILER_H

#ifdef __bpf__
#define WEIR_INLINE static __attribute__((always_inline)) inline
#else
#define WEIR_INLINE static inline
#endif
#ifdef __clang__
#define WEIR_NO_UNROLL _Pragma("clang loop unroll(disable)")
#define WEIR_UNROLL _Pragma("clang loop unroll(full)")
#else
#define WEIR_NO_UNROLL
#define WEIR_UNROLL
#endif
#define WEIR_LIKELY(x) __builtin_expect(!!(x), 1)
#define WEIR_UNLIKELY(x) __builtin_expect(!!(x), 0)

#endif
