#if defined(__x86_64__)
#pragma GCC target("avx2,fma,bmi,bmi2,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")
#define LEVEL 3
#define NAME with_bf16
#define TABLE bf16_level
#include "level.h"
#endif
