// The functions that each instruction set has.
#pragma once
#include "longhand.h"

struct Level {
    void (*linear)(const LhLinear *, int, const void *, int64_t, void *, int, void *);
    int64_t (*linear_workspace)(const LhLinear *, int64_t, int);
    void (*dequantize)(const LhLinear *, int, void *, int);
    void (*rms_norm)(int, const void *, const float *, float, int64_t, int64_t, void *);
    void (*swiglu)(int, const void *, const void *, int64_t, void *);
    void (*rope)(int, void *, const float *, const float *, int64_t, int64_t, int64_t);
    void (*attention)(int, int, const void *, const void *, const void *, int64_t, int64_t, int64_t, int64_t, int64_t, void *, int, void *);
    int64_t (*attention_workspace)(int64_t, int64_t, int64_t, int64_t, int64_t, int);
    void (*block)(const LhBlock *, void *, int64_t, const float *, const float *, void *, void *, int64_t, int, void *);
    int64_t (*block_workspace)(const LhBlock *, int64_t, int64_t, int);
};

extern const Level portable_level, avx2_level, avx512_level, bf16_level;
