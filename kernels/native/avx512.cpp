#if defined(__x86_64__)
#pragma GCC target("avx2,fma,bmi,bmi2,f16c,avx512f,avx512bw,avx512vl,avx512dq")
#define LEVEL 2
#define NAME avx512
#define TABLE avx512_level
#include "level.h"
#endif
