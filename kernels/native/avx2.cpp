#if defined(__x86_64__)
#pragma GCC target("avx2,fma,bmi,bmi2,f16c")
#define LEVEL 1
#define NAME avx2
#define TABLE avx2_level
#include "level.h"
#endif
