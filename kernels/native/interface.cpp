#include <cstring>

#include "level_table.h"
#include "longhand.h"
#include "team.h"

namespace {

int best() {
#if defined(__x86_64__)
    __builtin_cpu_init();
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
    bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
    if (avx512 && __builtin_cpu_supports("avx512bf16")) return 3;
    return avx512 ? 2 : avx2 ? 1 : 0;
#else
    return 0;
#endif
}

int forced = 3;

const Level &level() {
#if defined(__x86_64__)
    static const Level *const levels[] = {&portable_level, &avx2_level, &avx512_level, &bf16_level};
    return *levels[lh_level()];
#else
    return portable_level;
#endif
}

struct PackCall {
    const uint8_t *packed;
    int64_t n, k;
    uint8_t *out;
};

void pack_by(void *argument, Member &member) {
    PackCall &call = *(PackCall *)argument;
    const int64_t n = call.n, k = call.k;
    member.each((n + 63) / 64, [&](int64_t quad) {
        uint32_t *out = (uint32_t *)(call.out + quad * k * 32);
        for (int64_t row = 0; row < 64; row++) {
            const uint8_t *from = call.packed + (quad * 64 + row) * (k / 2);
            for (int64_t c = 0; c < k / 8; c++) {
                uint32_t word = 0;
                if (quad * 64 + row < n)
                    for (int p = 0; p < 4; p++) {  // a byte holds inputs 2p (high half) and 2p + 1
                        uint32_t two = from[4 * c + p];
                        word |= (two >> 4) << (4 * p) | (two & 15) << (16 + 4 * p);
                    }
                out[c * 64 + row] = word;
            }
        }
    });
}

}  // namespace

extern "C" {

int lh_version() { return 1; }

int lh_level() {
    static const int found = best();
    return found < forced ? found : forced;
}

int lh_force(int level) {
    forced = level;
    return lh_level();
}

void lh_pack(const uint8_t *packed, int64_t n, int64_t k, uint8_t *out, int threads) {
    PackCall call{packed, n, k, out};
    run_team(threads, pack_by, &call);
}

void lh_pack_rows(const void *rows, int64_t n, int64_t groups, int size, void *out) {
    memset(out, 0, (n + 63) / 64 * 64 * groups * size);
    for (int64_t row = 0; row < n; row++)
        for (int64_t g = 0; g < groups; g++)
            memcpy((char *)out + ((row / 64 * groups + g) * 64 + row % 64) * size, (const char *)rows + (row * groups + g) * size, size);
}

void lh_dequantize(const LhLinear *linear, int dtype, void *out, int threads) { level().dequantize(linear, dtype, out, threads); }

int64_t lh_linear_workspace(const LhLinear *linear, int64_t m, int threads) { return level().linear_workspace(linear, m, threads); }

int lh_linear(const LhLinear *linear, int dtype, const void *x, int64_t m, void *out, int threads, void *work, int64_t bytes) {
    if (bytes < lh_linear_workspace(linear, m, threads)) return -1;
    level().linear(linear, dtype, x, m, out, threads, work);
    return 0;
}

void lh_rms_norm(int dtype, const void *x, const float *weight, float eps, int64_t m, int64_t size, void *out) {
    level().rms_norm(dtype, x, weight, eps, m, size, out);
}

void lh_swiglu(int dtype, const void *gate, const void *up, int64_t count, void *out) { level().swiglu(dtype, gate, up, count, out); }

void lh_rope(int dtype, void *x, const float *cos, const float *sin, int64_t m, int64_t heads, int64_t d) {
    level().rope(dtype, x, cos, sin, m, heads, d);
}

int64_t lh_attention_workspace(int64_t m, int64_t positions, int64_t heads, int64_t kv_heads, int64_t d, int threads) {
    return level().attention_workspace(m, positions, heads, kv_heads, d, threads);
}

int lh_attention(int dtype, int kv_dtype, const void *q, const void *keys, const void *values, int64_t m, int64_t positions,
                 int64_t heads, int64_t kv_heads, int64_t d, void *out, int threads, void *work, int64_t bytes) {
    if (bytes < lh_attention_workspace(m, positions, heads, kv_heads, d, threads)) return -1;
    level().attention(dtype, kv_dtype, q, keys, values, m, positions, heads, kv_heads, d, out, threads, work);
    return 0;
}

int64_t lh_block_workspace(const LhBlock *block, int64_t m, int64_t positions, int threads) {
    return level().block_workspace(block, m, positions, threads);
}

int lh_block(const LhBlock *block, void *x, int64_t m, const float *cos, const float *sin, void *keys, void *values,
             int64_t position, int threads, void *work, int64_t bytes) {
    if (bytes < lh_block_workspace(block, m, position + m, threads)) return -1;
    level().block(block, x, m, cos, sin, keys, values, position, threads, work);
    return 0;
}
}
