// The C interface of the CPU kernels. Plain structs and pointers: the library needs neither torch nor Python to build.
//
// Shapes: M new positions, N outputs, K inputs, D the head's width. A tile is 16 neighbouring rows of a weight; lane i
// of a vector belongs to row i of its tile. Four tiles lie side by side: a quad.
#pragma once
#include <cstdint>

extern "C" {

enum { LH_F32 = 0, LH_BF16 = 1 };                       // dtypes
enum { LH_DENSE_F32 = 0, LH_DENSE_BF16 = 1, LH_CODES = 2, LH_INT4 = 3 };  // kinds of weights

// A weight [n, k]. Dense: row-major. Four bits, repacked by lh_pack: for each quad, 8 inputs at a time, the 32-bit words of
// its 64 rows; a word holds input 2p in bits 4p and input 2p+1 in bits 16+4p. The last quad is padded.
struct LhLinear {
    const void *weight;
    const float *bias;            // [n] or null
    const float *scales;          // [quads][k/group][64], or null where they are nested
    const uint8_t *codes;         // nested: [quads][k/group][64], codes of
    const float *nested_table;    //   [256], times
    const float *nested_scales;   //   a scale to each 256 blocks counted along the rows, plus offset
    const uint8_t *zeros;         // int4: [quads][k/group][64]
    float nested_offset;
    int32_t kind, group;
    int64_t n, k;
    float table[16];              // the values of the codes
};

struct LhBlock {
    LhLinear q, k, v, o, gate, up, down;
    const float *norm1, *norm2;   // [hidden]
    float eps;
    int32_t hidden, intermediate, heads, kv_heads, head_dim;
    int32_t dtype, kv_dtype;      // of x, and of the cache's rows
};

// Counts changes of this interface; VERSION in native_library.py says which one Python was written for.
int lh_version();

// The instruction set in use: 0 portable, 1 AVX2, 2 AVX-512, 3 AVX-512 with BF16. lh_force lowers it, for tests.
int lh_level();
int lh_force(int level);

// The OpenMP runtime to take threads from: its GOMP_parallel, omp_get_thread_num and omp_get_num_threads. Without, every
// call runs on the caller's thread alone.
void lh_use_openmp(void *parallel, void *thread_number, void *team_size);

// packed [n, k/2] row-major, first code in the high half -> quads; out has quads * k * 32 bytes.
void lh_pack(const uint8_t *packed, int64_t n, int64_t k, uint8_t *out, int threads);
// [n, groups] of `size` bytes each -> [quads][groups][64], zeros behind n.
void lh_pack_rows(const void *rows, int64_t n, int64_t groups, int size, void *out);
// Values of the weight, [n, k] in dtype, each rounded once from its float32 product.
void lh_dequantize(const LhLinear *linear, int dtype, void *out, int threads);

// out[M, n] = x[M, k] weight^T + bias, in dtype. Returns 0, or -1 where the workspace is too small.
int lh_linear(const LhLinear *linear, int dtype, const void *x, int64_t m, void *out, int threads, void *work, int64_t bytes);
int64_t lh_linear_workspace(const LhLinear *linear, int64_t m, int threads);

void lh_rms_norm(int dtype, const void *x, const float *weight, float eps, int64_t m, int64_t size, void *out);
void lh_swiglu(int dtype, const void *gate, const void *up, int64_t count, void *out);
// x [M, heads, D] in place by cos, sin [M, D/2].
void lh_rope(int dtype, void *x, const float *cos, const float *sin, int64_t m, int64_t heads, int64_t d);
// q [M, heads, D] of positions positions-M.. over keys, values [positions, kv_heads, D] -> out like q.
int lh_attention(int dtype, int kv_dtype, const void *q, const void *keys, const void *values, int64_t m, int64_t positions,
                 int64_t heads, int64_t kv_heads, int64_t d, void *out, int threads, void *work, int64_t bytes);
int64_t lh_attention_workspace(int64_t m, int64_t positions, int64_t heads, int64_t kv_heads, int64_t d, int threads);

// A decoder block on x [M, hidden] in place; writes M rows at `position` of keys, values [capacity, kv_heads, D].
int lh_block(const LhBlock *block, void *x, int64_t m, const float *cos, const float *sin, void *keys, void *values,
             int64_t position, int threads, void *work, int64_t bytes);
int64_t lh_block_workspace(const LhBlock *block, int64_t m, int64_t positions, int threads);
}
