// Sixteen float32 lanes, in the registers of whichever instruction set this file is compiled for: LEVEL 0 portable, 1 AVX2
// with FMA, 2 AVX-512, 3 AVX-512 with BF16. Every operation rounds the same way at every level but the portable one,
// which multiplies and adds in two steps. No include guard: each level includes it inside a namespace of its own.

typedef uint16_t bf16;

static inline float widen(bf16 value) {
    uint32_t bits = (uint32_t)value << 16;
    float out;
    memcpy(&out, &bits, 4);
    return out;
}
static inline float widen(float value) { return value; }

static inline bf16 round_bf16(float value) {  // to nearest even, NaN stays NaN
    uint32_t bits;
    memcpy(&bits, &value, 4);
    if ((bits & 0x7fffffff) > 0x7f800000) return (bf16)((bits >> 16) | 0x40);
    return (bf16)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}
static inline void put(float *to, float value) { *to = value; }
static inline void put(bf16 *to, float value) { *to = round_bf16(value); }

#if LEVEL >= 2

typedef __m512 V;
typedef __m512i Words;
static inline V zero() { return _mm512_setzero_ps(); }
static inline V all(float x) { return _mm512_set1_ps(x); }
static inline V load(const float *x) { return _mm512_loadu_ps(x); }
static inline V load(const bf16 *x) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)x)), 16));
}
static inline void store(float *to, V x) { _mm512_storeu_ps(to, x); }
static inline void store(bf16 *to, V x) {
    __m512i bits = _mm512_castps_si512(x);
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    __m512i rounded = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
    __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    rounded = _mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x400000));
    _mm256_storeu_si256((__m256i *)to, _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16)));
}
static inline V add(V a, V b) { return _mm512_add_ps(a, b); }
static inline V sub(V a, V b) { return _mm512_sub_ps(a, b); }
static inline V mul(V a, V b) { return _mm512_mul_ps(a, b); }
static inline V quotient(V a, V b) { return _mm512_div_ps(a, b); }
static inline V fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
static inline V larger(V a, V b) { return _mm512_max_ps(a, b); }
static inline V smaller(V a, V b) { return _mm512_min_ps(a, b); }
static inline V nearest(V a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
static inline V scale_by_power(V a, V power) { return _mm512_scalef_ps(a, power); }
static inline V first(V a, int count, float rest) {
    return _mm512_mask_mov_ps(all(rest), (__mmask16)((1u << count) - 1), a);
}
static inline Words load_words(const void *x) { return _mm512_loadu_si512(x); }
typedef __m512 Table;
static inline Table load_table(const float *values) { return _mm512_loadu_ps(values); }
template <int SHIFT> static inline V look_up(Table table, Words words) {
    return _mm512_permutexvar_ps(_mm512_srli_epi32(words, SHIFT), table);
}
static inline V bytes(const uint8_t *x) { return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)x))); }
static inline V gather(const float *table, const int32_t *index) {
    return _mm512_i32gather_ps(_mm512_loadu_si512(index), table, 4);
}

#elif LEVEL == 1

struct V { __m256 a, b; };
struct Words { __m256i a, b; };
static inline V zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
static inline V all(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
static inline V load(const float *x) { return {_mm256_loadu_ps(x), _mm256_loadu_ps(x + 8)}; }
static inline __m256 load8(const bf16 *x) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)x)), 16));
}
static inline V load(const bf16 *x) { return {load8(x), load8(x + 8)}; }
static inline void store(float *to, V x) { _mm256_storeu_ps(to, x.a), _mm256_storeu_ps(to + 8, x.b); }
static inline void store(bf16 *to, V x) {
    float values[16];
    store(values, x);
    for (int i = 0; i < 16; i++) to[i] = round_bf16(values[i]);
}
#define BOTH(name, of) \
    static inline V name(V x, V y) { return {of(x.a, y.a), of(x.b, y.b)}; }
BOTH(add, _mm256_add_ps)
BOTH(sub, _mm256_sub_ps)
BOTH(mul, _mm256_mul_ps)
BOTH(quotient, _mm256_div_ps)
BOTH(larger, _mm256_max_ps)
BOTH(smaller, _mm256_min_ps)
#undef BOTH
static inline V fma(V x, V y, V z) { return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)}; }
static inline V nearest(V x) { return {_mm256_round_ps(x.a, 8), _mm256_round_ps(x.b, 8)}; }
static inline __m256 power8(__m256 a, __m256 power) {  // a * 2**power by the exponent's bits, in two steps for the ends
    __m256i whole = _mm256_cvtps_epi32(_mm256_max_ps(power, _mm256_set1_ps(-250)));
    __m256i half = _mm256_srai_epi32(whole, 1);
    __m256i rest = _mm256_sub_epi32(whole, half);
    __m256i bias = _mm256_set1_epi32(127);
    a = _mm256_mul_ps(a, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23)));
    return _mm256_mul_ps(a, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23)));
}
static inline V scale_by_power(V x, V power) { return {power8(x.a, power.a), power8(x.b, power.b)}; }
static inline V first(V x, int count, float rest) {
    float values[16];
    store(values, x);
    for (int i = count; i < 16; i++) values[i] = rest;
    return load(values);
}
static inline Words load_words(const void *x) {
    return {_mm256_loadu_si256((const __m256i *)x), _mm256_loadu_si256((const __m256i *)x + 1)};
}
struct Table { __m256 low, high; };
static inline Table load_table(const float *values) { return {_mm256_loadu_ps(values), _mm256_loadu_ps(values + 8)}; }
static inline __m256 look_up8(Table table, __m256i index) {
    __m256 low = _mm256_permutevar8x32_ps(table.low, index), high = _mm256_permutevar8x32_ps(table.high, index);
    return _mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32(index, 28)));
}
template <int SHIFT> static inline V look_up(Table table, Words words) {
    return {look_up8(table, _mm256_srli_epi32(words.a, SHIFT)), look_up8(table, _mm256_srli_epi32(words.b, SHIFT))};
}
static inline V bytes(const uint8_t *x) {
    __m128i b = _mm_loadu_si128((const __m128i *)x);
    return {_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(b)), _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128(b, 8)))};
}
static inline V gather(const float *table, const int32_t *index) {
    float values[16];
    for (int i = 0; i < 16; i++) values[i] = table[index[i]];
    return load(values);
}

#else

typedef float V __attribute__((vector_size(64)));  // the compiler splits it into what the machine has
typedef uint32_t Words __attribute__((vector_size(64)));
typedef V Table;
#define EACH(expression) \
    V out; \
    for (int i = 0; i < 16; i++) out[i] = expression; \
    return out
static inline V zero() { return V{}; }
static inline V all(float x) { return x - V{}; }
static inline V load(const float *x) {
    V out;
    memcpy(&out, x, 64);
    return out;
}
static inline V load(const bf16 *x) { EACH(widen(x[i])); }
static inline void store(float *to, V x) { memcpy(to, &x, 64); }
static inline void store(bf16 *to, V x) { for (int i = 0; i < 16; i++) to[i] = round_bf16(x[i]); }
static inline V add(V a, V b) { return a + b; }
static inline V sub(V a, V b) { return a - b; }
static inline V mul(V a, V b) { return a * b; }
static inline V quotient(V a, V b) { return a / b; }
static inline V fma(V a, V b, V c) { return a * b + c; }
static inline V larger(V a, V b) { return a > b ? a : b; }
static inline V smaller(V a, V b) { return a < b ? a : b; }
static inline V nearest(V a) { EACH(nearbyintf(a[i])); }
static inline V scale_by_power(V a, V power) { EACH(ldexpf(a[i], power[i] > -250 ? (int)power[i] : -250)); }
static inline V first(V a, int count, float rest) { EACH(i < count ? a[i] : rest); }
static inline Words load_words(const void *x) {
    Words out;
    memcpy(&out, x, 64);
    return out;
}
static inline Table load_table(const float *values) { return load(values); }
template <int SHIFT> static inline V look_up(Table table, Words words) {
    Words index = (words >> SHIFT) & 15;
    EACH(table[index[i]]);
}
static inline V bytes(const uint8_t *x) { EACH((float)x[i]); }
static inline V gather(const float *table, const int32_t *index) { EACH(table[index[i]]); }
#undef EACH

#endif

// Always in the same order.
static inline float sum(V x) {
#if LEVEL >= 2
    return _mm512_reduce_add_ps(x);
#else
    float v[16];
    store(v, x);
    for (int step = 8; step; step /= 2)
        for (int i = 0; i < step; i++) v[i] += v[i + step];
    return v[0];
#endif
}

static inline float largest(V x) {  // of numbers; a NaN may be passed over
#if LEVEL >= 2
    return _mm512_reduce_max_ps(x);
#else
    float v[16];
    store(v, x);
    float out = v[0];
    for (int i = 1; i < 16; i++) out = v[i] > out ? v[i] : out;
    return out;
#endif
}

// 2**x, off by 2 units in the last place at most: 2**n times a polynomial on [-1/2, 1/2] (Taylor's, whose next term is
// below 2**-24 there). NaN stays NaN, below -126 it is as good as 0.
static inline V power_of_two(V x) {
    V n = nearest(x), r = sub(x, n);
    V p = all(1.5252734e-5f);
    p = fma(p, r, all(1.5403530e-4f));
    p = fma(p, r, all(1.3333558e-3f));
    p = fma(p, r, all(9.6181291e-3f));
    p = fma(p, r, all(5.5504109e-2f));
    p = fma(p, r, all(2.4022651e-1f));
    p = fma(p, r, all(6.9314718e-1f));
    p = fma(p, r, all(1.0f));
    return scale_by_power(p, n);
}

constexpr float LOG2_E = 1.44269504f;

static inline V exponential(V x) {  // within the range of float32; the product's rounding costs |x| units more
    return power_of_two(smaller(all(127.0f), larger(all(-150.0f), mul(x, all(LOG2_E)))));
}
