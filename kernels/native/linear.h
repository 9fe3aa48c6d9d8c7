// Products with a weight [n, k]. Each output is summed in an order that depends on k alone, so a row comes out the same
// whatever M, and however the threads shared the rows.

constexpr int TILE = 16;
constexpr int QUAD = 4;          // tiles that lie side by side, and that one task computes: 64 rows of the weight
constexpr int WIDTH = QUAD * TILE;
constexpr int AHEAD = 4096;      // bytes of a weight that are asked for before they are needed
constexpr int TASK_ROWS = 128;   // rows of x of a task
constexpr int64_t LINEAR_OWN = TASK_ROWS * WIDTH;  // floats that a task's product takes

static inline int64_t quads_of(const LhLinear &w) { return (w.n + WIDTH - 1) / WIDTH; }
// Where the scales, codes or zeros of a tile's group lie.
static inline int64_t group_at(int64_t tile, int64_t group, int64_t groups) {
    return ((tile / QUAD * groups + group) * QUAD + tile % QUAD) * TILE;
}

static inline V group_scale(const LhLinear &w, int64_t tile, int64_t group, int64_t groups) {
    int64_t at = group_at(tile, group, groups);
    if (w.scales) return load(w.scales + at);
    alignas(64) int32_t code[16], block[16];
    for (int i = 0; i < 16; i++) code[i] = w.codes[at + i];
    int64_t last = (w.n * groups - 1) >> 8;  // padded rows read some scale; what comes of them is dropped
    for (int i = 0; i < 16; i++) {
        int64_t index = ((tile * TILE + i) * groups + group) >> 8;
        block[i] = (int32_t)(index < last ? index : last);
    }
    return add(mul(gather(w.nested_table, code), gather(w.nested_scales, block)), all(w.nested_offset));
}

// The sums of x over each group, for weights with a zero point.
template <class A> static void group_sums(const LhLinear &w, const A *x, float *sums) {
    int64_t groups = w.k / w.group;
    for (int64_t g = 0; g < groups; g++) {
        float total = 0;
        for (int64_t i = 0; i < w.group; i++) total += widen(x[g * w.group + i]);
        sums[g] = total;
    }
}

// Where the codes of a tile begin; those of the next 8 inputs lie 64 * QUAD bytes further.
static inline const uint8_t *codes_of(const LhLinear &w, int64_t tile) {
    return (const uint8_t *)w.weight + tile / QUAD * QUAD * w.k * 8 + tile % QUAD * 64;
}

// total += a group's partial sums, less its zero point, times its scale.
template <int T, int R>
static inline void add_group(const LhLinear &w, int64_t tile, int64_t g, int64_t groups, const float *sums, V (&part)[T][R], V (&total)[T][R]) {
    for (int t = 0; t < T; t++) {
        V scale = group_scale(w, tile + t, g, groups);
        if (w.kind == LH_INT4) {
            V offset = bytes(w.zeros + group_at(tile + t, g, groups));
            for (int r = 0; r < R; r++) part[t][r] = sub(part[t][r], mul(offset, all(sums[r * groups + g])));
        }
        for (int r = 0; r < R; r++) total[t][r] = fma(part[t][r], scale, total[t][r]);
    }
}

// Four bits, T tiles by R rows of x: out[row][lane of tile], float32. sums: per row of x, of each group.
template <int T, int R>
static inline void codes_rows(const LhLinear &w, const float *x, const float *sums, int64_t tile, float *out, int64_t stride) {
    const int64_t groups = w.k / w.group, k = w.k;
    const uint8_t *data[T];
    for (int t = 0; t < T; t++) data[t] = codes_of(w, tile + t);
    Table table = load_table(w.table);
    V total[T][R];
    for (int t = 0; t < T; t++)
        for (int r = 0; r < R; r++) total[t][r] = zero();
    for (int64_t g = 0; g < groups; g++) {
        V part[T][R];
        for (int t = 0; t < T; t++)
            for (int r = 0; r < R; r++) part[t][r] = zero();
        const float *at = x + g * w.group;
        for (int c = 0; c < w.group; c += 8, at += 8) {
            Words words[T];
            for (int t = 0; t < T; t++) words[t] = load_words(data[t]), data[t] += 64 * QUAD;
#define STEP(SHIFT, INPUT) \
    for (int t = 0; t < T; t++) { \
        V value = look_up<SHIFT>(table, words[t]); \
        for (int r = 0; r < R; r++) part[t][r] = fma(value, all(at[r * k + INPUT]), part[t][r]); \
    }
            STEP(0, 0) STEP(16, 1) STEP(4, 2) STEP(20, 3) STEP(8, 4) STEP(24, 5) STEP(12, 6) STEP(28, 7)
#undef STEP
        }
        add_group<T, R>(w, tile, g, groups, sums, part, total);
    }
    for (int t = 0; t < T; t++)
        for (int r = 0; r < R; r++) store(out + r * stride + t * TILE, total[t][r]);
}

#if LEVEL >= 3

static inline __m512bh pair(const bf16 *x) {
    int32_t both;
    memcpy(&both, x, 4);
    return (__m512bh)_mm512_set1_epi32(both);
}

// The same with bfloat16 products, two inputs to a lane. Codes are looked up as bfloat16: the low five bits of each
// 16-bit half choose among 32 entries, and the table is there twice, so what lies above a code needs no mask.
template <int T, int R>
static inline void codes_rows(const LhLinear &w, const bf16 *x, const float *sums, int64_t tile, float *out, int64_t stride) {
    const int64_t groups = w.k / w.group, k = w.k;
    const uint8_t *data[T];
    for (int t = 0; t < T; t++) data[t] = codes_of(w, tile + t);
    // The first pass over a quad asks memory for all of it; the passes after find it in the cache.
    const char *ahead = (const char *)data[0] + (tile % QUAD ? 0 : AHEAD);
    alignas(64) bf16 entries[32];
    for (int i = 0; i < 32; i++) entries[i] = round_bf16(w.table[i & 15]);
    const __m512i table = _mm512_load_si512(entries);
    V total[T][R];
    for (int t = 0; t < T; t++)
        for (int r = 0; r < R; r++) total[t][r] = zero();
    for (int64_t g = 0; g < groups; g++) {
        V part[T][R];
        for (int t = 0; t < T; t++)
            for (int r = 0; r < R; r++) part[t][r] = zero();
        const bf16 *at = x + g * w.group;
        for (int c = 0; c < w.group; c += 8, at += 8) {
            __m512i words[T];
            for (int t = 0; t < T; t++) words[t] = _mm512_loadu_si512(data[t]), data[t] += 64 * QUAD;
            for (int t = 0; t < QUAD; t++) _mm_prefetch(ahead + 64 * t, _MM_HINT_T0);
            ahead += 64 * QUAD;
#define STEP(SHIFT) \
    { \
        __m512bh values[T]; \
        for (int t = 0; t < T; t++) \
            values[t] = (__m512bh)_mm512_permutexvar_epi16(SHIFT ? _mm512_srli_epi16(words[t], SHIFT) : words[t], table); \
        for (int r = 0; r < R; r++) { \
            __m512bh inputs = pair(at + r * k + SHIFT / 2); \
            for (int t = 0; t < T; t++) part[t][r] = _mm512_dpbf16_ps(part[t][r], values[t], inputs); \
        } \
    }
            STEP(0) STEP(4) STEP(8) STEP(12)
#undef STEP
        }
        add_group<T, R>(w, tile, g, groups, sums, part, total);
    }
    for (int t = 0; t < T; t++)
        for (int r = 0; r < R; r++) store(out + r * stride + t * TILE, total[t][r]);
}

#endif

// Dense rows, lanes along k: four rows of the weight by R of x.
template <class W, class A, int R>
static inline void dense_rows(const LhLinear &w, const A *x, int64_t row, int rows, float *out, int64_t stride) {
    const W *data = (const W *)w.weight + row * w.k;
    const int64_t k = w.k, whole = k / TILE * TILE;
    for (int first_row = 0; first_row < rows; first_row += 4, data += 4 * k) {
        int count = rows - first_row < 4 ? rows - first_row : 4;
        const W *from[4];
        for (int t = 0; t < 4; t++) from[t] = data + (t < count ? t : 0) * k;
        V total[4][R];
        for (int t = 0; t < 4; t++)
            for (int r = 0; r < R; r++) total[t][r] = zero();
        for (int64_t i = 0; i < whole; i += TILE) {
            V inputs[R];
            for (int r = 0; r < R; r++) inputs[r] = load(x + r * k + i);
            for (int t = 0; t < 4; t++) {
                V values = load(from[t] + i);
                for (int r = 0; r < R; r++) total[t][r] = fma(values, inputs[r], total[t][r]);
            }
        }
        for (int t = 0; t < count; t++)
            for (int r = 0; r < R; r++) {
                float value = sum(total[t][r]);
                for (int64_t i = whole; i < k; i++) value += widen(from[t][i]) * widen(x[r * k + i]);
                out[r * stride + first_row + t] = value;
            }
    }
}

// Rows m of x against a quad: out[row][WIDTH], float32, without bias. Four rows of x at a time leave registers for their
// partial sums, and memory is read in one stream: eight rows by two tiles were half as fast.
template <class A> static void product(const LhLinear &w, const A *x, const float *sums, int64_t m, int64_t quad, float *out) {
    const int64_t k = w.k, groups = w.kind >= LH_CODES ? k / w.group : 0;
    int64_t rows = w.n - quad * WIDTH < WIDTH ? w.n - quad * WIDTH : WIDTH;
    for (int64_t row = 0; row < m;) {
#define CODES(T, R) \
    for (int done = 0; done < QUAD; done += T) \
        codes_rows<T, R>(w, x + row * k, sums + row * groups, quad * QUAD + done, out + row * WIDTH + done * TILE, WIDTH); \
    row += R
#define DENSE(W, R) dense_rows<W, A, R>(w, x + row * k, quad * WIDTH, (int)rows, out + row * WIDTH, WIDTH), row += R
        if (w.kind == LH_DENSE_F32) {
            if (m - row >= 4) DENSE(float, 4);
            else DENSE(float, 1);
        } else if (w.kind == LH_DENSE_BF16) {
            if (m - row >= 4) DENSE(bf16, 4);
            else DENSE(bf16, 1);
        } else if (m - row >= 4) {
            CODES((LEVEL >= 2 ? 4 : 2), 4);
        } else if (LEVEL >= 2 && m - row >= 2) {
            CODES(4, (LEVEL >= 2 ? 2 : 1));
        } else {
            CODES(4, 1);
        }
#undef CODES
#undef DENSE
    }
}

static inline int64_t tasks_of(const LhLinear &w, int64_t m) { return quads_of(w) * ((m + TASK_ROWS - 1) / TASK_ROWS); }

// The part of a product that a task computes: rows `row`..row+rows-1, outputs `n`..n+count-1, biased, in out[rows][WIDTH].
struct Part {
    int64_t row, rows, n, count;
};

template <class A> static Part task_product(const LhLinear &w, const A *x, const float *sums, int64_t m, int64_t task, float *out) {
    int64_t quad = task % quads_of(w);
    Part part;
    part.row = task / quads_of(w) * TASK_ROWS;
    part.rows = m - part.row < TASK_ROWS ? m - part.row : TASK_ROWS;
    part.n = quad * WIDTH;
    part.count = w.n - part.n < WIDTH ? w.n - part.n : WIDTH;
    int64_t groups = w.kind >= LH_CODES ? w.k / w.group : 0;
    product(w, x + part.row * w.k, sums + part.row * groups, part.rows, quad, out);
    if (w.bias)
        for (int64_t r = 0; r < part.rows; r++)
            for (int64_t i = 0; i < part.count; i++) out[r * WIDTH + i] += w.bias[part.n + i];
    return part;
}
