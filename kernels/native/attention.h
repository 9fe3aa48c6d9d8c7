// Causal attention of a few new positions over a long cache, in one pass over keys and values with a running maximum
// (online softmax, arXiv 1805.02867). All query heads of a key/value head are rows of one problem, so each key and value
// is read once for its group. Positions are cut into chunks, and chunks into splits, at fixed places: what a row's sums
// add up to depends neither on the other rows nor on the threads.

constexpr int64_t CHUNK = 64;    // positions whose scores are in memory at a time
constexpr int64_t SPLIT = 256;   // positions that one task reads; partial results are merged in order
constexpr float LOWEST = -1e30f;   // the maximum of a row that saw nothing yet: finite, so that differences are
constexpr int64_t QUERIES = 16;  // new positions that one task takes

struct Shape {
    int64_t m, positions, heads, kv_heads, d;
    int64_t group() const { return heads / kv_heads; }
    int64_t rows() const { return (m < QUERIES ? m : QUERIES) * group(); }  // of a task
    int64_t splits() const { return (positions + SPLIT - 1) / SPLIT; }
    int64_t blocks() const { return (m + QUERIES - 1) / QUERIES; }
    bool spread() const { return m <= QUERIES; }  // splits run side by side, and are merged after
    int64_t padded_rows() const { return (rows() + 15) / 16 * 16; }
    int64_t outcome() const { return rows() * d + 2 * padded_rows(); }  // floats: sums [rows][d], maximum and weight [rows]
    // Floats that a member needs: keys, values, scores and how far each row fades, and two outcomes.
    int64_t scratch() const { return 2 * CHUNK * d + rows() * CHUNK + 2 * padded_rows() + 2 * outcome() + 64; }
    int64_t shared() const { return spread() ? kv_heads * splits() * outcome() : 0; }
};

struct Outcome {
    float *sums, *maximum, *weight;
    Outcome(float *at, const Shape &s) : sums(at), maximum(at + s.rows() * s.d), weight(maximum + s.padded_rows()) {}
};

static inline void transpose_words(const uint32_t *const from[16], uint32_t *to) {  // to[i][16] = from[0..15][i]
#if LEVEL >= 2
    __m512i r[16], s[16];
    for (int i = 0; i < 16; i++) r[i] = _mm512_loadu_si512(from[i]);
    for (int i = 0; i < 16; i += 2) {
        s[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        s[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        r[i] = _mm512_unpacklo_epi64(s[i], s[i + 2]);
        r[i + 1] = _mm512_unpackhi_epi64(s[i], s[i + 2]);
        r[i + 2] = _mm512_unpacklo_epi64(s[i + 1], s[i + 3]);
        r[i + 3] = _mm512_unpackhi_epi64(s[i + 1], s[i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        s[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
        s[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
        s[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
        s[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
    }
    for (int i = 0; i < 4; i++) {
        _mm512_storeu_si512(to + 16 * i, _mm512_shuffle_i32x4(s[i], s[i + 8], 0x88));
        _mm512_storeu_si512(to + 16 * (i + 8), _mm512_shuffle_i32x4(s[i], s[i + 8], 0xdd));
        _mm512_storeu_si512(to + 16 * (i + 4), _mm512_shuffle_i32x4(s[i + 4], s[i + 12], 0x88));
        _mm512_storeu_si512(to + 16 * (i + 12), _mm512_shuffle_i32x4(s[i + 4], s[i + 12], 0xdd));
    }
#else
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 16; j++) to[16 * i + j] = from[j][i];
#endif
}

// In float32: keys of a chunk as [tile of 16 positions][d][16], values as [position][d].
template <class A, class C> struct Plain {
    static void take_keys(const C *keys, int64_t stride, int64_t count, int64_t d, float *to) {
        for (int64_t tile = 0; tile * 16 < count; tile++)
            for (int64_t i = 0; i < d; i++)
                for (int j = 0; j < 16; j++) {
                    int64_t position = tile * 16 + j < count ? tile * 16 + j : count - 1;
                    to[(tile * d + i) * 16 + j] = widen(keys[position * stride + i]);
                }
    }
    static void take_values(const C *values, int64_t stride, int64_t count, int64_t d, float *to) {
        for (int64_t j = 0; j < count; j++)
            for (int64_t i = 0; i < d; i += 16) store(to + j * d + i, load(values + j * stride + i));
    }
    template <int R, int T> static void scores(const A *const q[], const float *keys, int64_t tile, int64_t d, float *to) {
        V total[T][R];
        for (int t = 0; t < T; t++)
            for (int r = 0; r < R; r++) total[t][r] = zero();
        const float *at = keys + tile * d * 16;
        for (int64_t i = 0; i < d; i++, at += 16) {
            V key[T];
            for (int t = 0; t < T; t++) key[t] = load(at + t * d * 16);
            for (int r = 0; r < R; r++)
                for (int t = 0; t < T; t++) total[t][r] = fma(key[t], all(widen(q[r][i])), total[t][r]);
        }
        for (int t = 0; t < T; t++)
            for (int r = 0; r < R; r++) store(to + r * CHUNK + (tile + t) * 16, total[t][r]);
    }
    static V keep(float *row, V weights, int64_t at) {  // returns the weights as they are used
        store(row + at, weights);
        return weights;
    }
    template <int R, int N>
    static void mix(const float *weights, const float *values, int64_t count, int64_t d, int64_t from, const float *fade, float *sums) {
        V total[R][N];
        for (int r = 0; r < R; r++)
            for (int n = 0; n < N; n++) total[r][n] = mul(load(sums + r * d + from + 16 * n), all(fade[r]));
        for (int64_t j = 0; j < count; j++) {
            V value[N];
            for (int n = 0; n < N; n++) value[n] = load(values + j * d + from + 16 * n);
            for (int r = 0; r < R; r++)
                for (int n = 0; n < N; n++) total[r][n] = fma(value[n], all(weights[r * CHUNK + j]), total[r][n]);
        }
        for (int r = 0; r < R; r++)
            for (int n = 0; n < N; n++) store(sums + r * d + from + 16 * n, total[r][n]);
    }
};

#if LEVEL >= 3

// In bfloat16 pairs: keys as [tile of 16 positions][d/2][16 words], values as [pair of positions][d words], weights in the
// first half of each row of scores.
struct Pairs {
    static void take_keys(const bf16 *keys, int64_t stride, int64_t count, int64_t d, float *to) {
        for (int64_t tile = 0; tile * 16 < count; tile++)
            for (int64_t i = 0; i < d; i += 32) {
                const uint32_t *from[16];
                for (int j = 0; j < 16; j++) {
                    int64_t position = tile * 16 + j < count ? tile * 16 + j : count - 1;
                    from[j] = (const uint32_t *)(keys + position * stride + i);
                }
                transpose_words(from, (uint32_t *)to + (tile * d + i) * 8);
            }
    }
    static void take_values(const bf16 *values, int64_t stride, int64_t count, int64_t d, float *to) {
        for (int64_t j = 0; j < count; j += 2)
            for (int64_t i = 0; i < d; i += 16) {
                const bf16 *a = values + j * stride + i;
                __m512i low = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)a)), high = _mm512_setzero_si512();
                if (j + 1 < count) high = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(a + stride)));
                _mm512_storeu_si512((uint32_t *)to + j / 2 * d + i, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
            }
    }
    template <int R, int T> static void scores(const bf16 *const q[], const float *keys, int64_t tile, int64_t d, float *to) {
        V total[T][R];
        for (int t = 0; t < T; t++)
            for (int r = 0; r < R; r++) total[t][r] = zero();
        const float *at = keys + tile * d * 8;
        for (int64_t i = 0; i < d; i += 2, at += 16) {
            __m512bh key[T];
            for (int t = 0; t < T; t++) key[t] = (__m512bh)_mm512_loadu_si512(at + t * d * 8);
            for (int r = 0; r < R; r++) {
                __m512bh inputs = pair(q[r] + i);
                for (int t = 0; t < T; t++) total[t][r] = _mm512_dpbf16_ps(total[t][r], key[t], inputs);
            }
        }
        for (int t = 0; t < T; t++)
            for (int r = 0; r < R; r++) store(to + r * CHUNK + (tile + t) * 16, total[t][r]);
    }
    static V keep(float *row, V weights, int64_t at) {
        __m256i narrow = (__m256i)_mm512_cvtneps_pbh(weights);
        _mm256_storeu_si256((__m256i *)((bf16 *)row + at), narrow);
        return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(narrow), 16));
    }
    template <int R, int N>
    static void mix(const float *weights, const float *values, int64_t count, int64_t d, int64_t from, const float *fade, float *sums) {
        V total[R][N];
        for (int r = 0; r < R; r++)
            for (int n = 0; n < N; n++) total[r][n] = mul(load(sums + r * d + from + 16 * n), all(fade[r]));
        for (int64_t j = 0; j < count; j += 2) {
            __m512bh value[N];
            for (int n = 0; n < N; n++) value[n] = (__m512bh)_mm512_loadu_si512(values + j / 2 * d + from + 16 * n);
            for (int r = 0; r < R; r++) {
                __m512bh weight = pair((const bf16 *)(weights + r * CHUNK) + j);
                for (int n = 0; n < N; n++) total[r][n] = _mm512_dpbf16_ps(total[r][n], value[n], weight);
            }
        }
        for (int r = 0; r < R; r++)
            for (int n = 0; n < N; n++) store(sums + r * d + from + 16 * n, total[r][n]);
    }
};

#endif

template <class Way, class A, int R> static void all_scores(const A *const q[], const float *keys, int64_t count, int64_t d, float *to) {
    int64_t tile = 0, tiles = (count + 15) / 16;
    for (; tile + 2 <= tiles; tile += 2) Way::template scores<R, 2>(q, keys, tile, d, to);
    if (tile < tiles) Way::template scores<R, 1>(q, keys, tile, d, to);
}

template <class Way, int R> static void all_mixed(const float *weights, const float *values, int64_t count, int64_t d, const float *fade, float *sums) {
    int64_t from = 0;
    if constexpr (R <= 6)
        for (; d - from >= 64; from += 64) Way::template mix<R, 4>(weights, values, count, d, from, fade, sums);
    for (; d - from >= 32; from += 32) Way::template mix<R, 2>(weights, values, count, d, from, fade, sums);
    for (; d - from >= 16; from += 16) Way::template mix<R, 1>(weights, values, count, d, from, fade, sums);
}

// Rows of queries `block` against positions start..end-1 of one key/value head.
template <class Way, class A, class C>
static void attend(const Shape &s, const A *q, const C *keys, const C *values, int64_t head, int64_t block, int64_t start,
                   int64_t end, Outcome out, float *scratch) {
    const int64_t group = s.group(), d = s.d, stride = s.kv_heads * d;
    const int64_t query = block * QUERIES, queries = s.m - query < QUERIES ? s.m - query : QUERIES, rows = queries * group;
    float *key_space = scratch, *value_space = key_space + CHUNK * d, *scores = value_space + CHUNK * d;
    float *fade = scores + s.rows() * CHUNK, *weights = fade + s.padded_rows();
    const float scale = LOG2_E / sqrtf((float)d);  // weights are powers of two of the scores
    for (int64_t i = 0; i < rows * d; i++) out.sums[i] = 0;
    for (int64_t r = 0; r < s.padded_rows(); r++) out.maximum[r] = LOWEST, out.weight[r] = 0, fade[r] = 0, weights[r] = 0;
    for (int64_t at = start; at < end; at += CHUNK) {
        int64_t chunk_end = at + CHUNK < end ? at + CHUNK : end;
        int64_t seen_by_last = s.positions - s.m + query + queries;
        int64_t count = (chunk_end < seen_by_last ? chunk_end : seen_by_last) - at;
        if (count <= 0) break;
        Way::take_keys(keys + at * stride + head * d, stride, count, d, key_space);
        Way::take_values(values + at * stride + head * d, stride, count, d, value_space);
        for (int64_t r = 0; r < rows;) {
            const A *from[8];
            int64_t some = rows - r < 8 ? rows - r : 8;
            for (int64_t i = 0; i < some; i++) from[i] = q + ((query + (r + i) / group) * s.heads + head * group + (r + i) % group) * d;
            float *to = scores + r * CHUNK;
#define SCORES(R) all_scores<Way, A, R>(from, key_space, count, d, to); r += R
            if (some == 8) { SCORES(8); }
            else if (some == 7) { SCORES(7); }
            else if (some >= 5) { SCORES(5); }
            else if (some >= 2) { SCORES(2); }
            else { SCORES(1); }
#undef SCORES
        }
        for (int64_t r = 0; r < rows; r++) {
            float *row = scores + r * CHUNK;
            int64_t visible = s.positions - s.m + query + r / group + 1 - at;  // of this chunk, by this row
            if (visible > count) visible = count;
            V values[CHUNK / 16], most = all(-INFINITY), weight = zero();
            for (int i = 0; i < CHUNK / 16; i++) {
                values[i] = load(row + 16 * i);
                if (visible < 16 * (i + 1)) values[i] = first(values[i], (int)(visible > 16 * i ? visible - 16 * i : 0), -INFINITY);
                most = larger(most, values[i]);
            }
            float before = out.maximum[r], now = largest(most) * scale;
            now = visible <= 0 || before > now ? before : now;
            out.maximum[r] = now;
            fade[r] = before - now;
            for (int i = 0; i < CHUNK / 16; i++) {
                V power = visible > 16 * i ? power_of_two(fma(values[i], all(scale), all(-now))) : zero();
                if (visible < 16 * (i + 1)) power = first(power, (int)(visible > 16 * i ? visible - 16 * i : 0), 0);
                weight = add(weight, Way::keep(row, power, 16 * i));
            }
            weights[r] = sum(weight);
        }
        for (int64_t r = 0; r < rows; r += 16) {
            store(fade + r, power_of_two(load(fade + r)));
            store(out.weight + r, fma(load(out.weight + r), load(fade + r), load(weights + r)));
        }
        for (int64_t r = 0; r < rows;) {
            const float *mixing = scores + r * CHUNK;
            float *sums = out.sums + r * d;
#define MIX(R) all_mixed<Way, R>(mixing, value_space, count, d, fade + r, sums); r += R
            if (rows - r == 7) { MIX(7); }
            else if (rows - r >= 6) { MIX(6); }
            else if (rows - r == 5) { MIX(5); }
            else if (rows - r >= 4) { MIX(4); }
            else if (rows - r >= 2) { MIX(2); }
            else { MIX(1); }
#undef MIX
        }
    }
}

// total += part, as the same rows saw the positions behind it. A row that saw none of them stays as it is.
static void merge(const Shape &s, Outcome total, Outcome part, int64_t row, int64_t rows) {
    for (int64_t r = row; r < row + rows; r++) {
        float a = total.maximum[r], b = part.maximum[r];
        if (part.weight[r] == 0) continue;
        float now = a > b ? a : b, fades[16];
        alignas(64) float both[16] = {a - now, b - now};
        store(fades, power_of_two(load(both)));
        for (int64_t i = 0; i < s.d; i += 16) {
            V sums = mul(load(total.sums + r * s.d + i), all(fades[0]));
            store(total.sums + r * s.d + i, fma(load(part.sums + r * s.d + i), all(fades[1]), sums));
        }
        total.weight[r] = total.weight[r] * fades[0] + part.weight[r] * fades[1];
        total.maximum[r] = now;
    }
}

template <class A> static void finish(const Shape &s, Outcome total, int64_t head, int64_t block, int64_t row, int64_t rows, A *out) {
    for (int64_t r = row; r < row + rows; r++) {
        A *to = out + ((block * QUERIES + r / s.group()) * s.heads + head * s.group() + r % s.group()) * s.d;
        for (int64_t i = 0; i < s.d; i += 16) store(to + i, quotient(load(total.sums + r * s.d + i), all(total.weight[r])));
    }
}

// The whole, by all members together. own: scratch of this member; shared: of all.
template <class Way, class A, class C>
static void attention_by(Member &member, const Shape &s, const A *q, const C *keys, const C *values, A *out, float *own, float *shared) {
    float *space = own + 2 * CHUNK * s.d + s.rows() * CHUNK + 2 * s.padded_rows();
    if (!s.spread()) {
        member.each(s.kv_heads * s.blocks(), [&](int64_t task) {
            int64_t head = task % s.kv_heads, block = s.blocks() - 1 - task / s.kv_heads;  // the longest first
            int64_t queries = s.m - block * QUERIES < QUERIES ? s.m - block * QUERIES : QUERIES;
            int64_t end = s.positions - s.m + block * QUERIES + queries;
            Outcome total(space, s), part(space + s.outcome(), s);
            for (int64_t start = 0; start < end; start += SPLIT) {
                int64_t stop = start + SPLIT < end ? start + SPLIT : end;
                attend<Way, A, C>(s, q, keys, values, head, block, start, stop, start ? part : total, own);
                if (start) merge(s, total, part, 0, queries * s.group());
            }
            finish(s, total, head, block, 0, queries * s.group(), out);
        });
        return;
    }
    int64_t splits = s.splits();
    member.each(s.kv_heads * splits, [&](int64_t task) {
        int64_t head = task % s.kv_heads, split = task / s.kv_heads, start = split * SPLIT;
        int64_t stop = start + SPLIT < s.positions ? start + SPLIT : s.positions;
        attend<Way, A, C>(s, q, keys, values, head, 0, start, stop, Outcome(shared + (head * splits + split) * s.outcome(), s), own);
    });
    member.each(s.heads * s.m, [&](int64_t task) {
        int64_t head = task / s.rows(), row = task % s.rows();
        float *at = shared + head * splits * s.outcome();
        for (int64_t split = 1; split < splits; split++)
            merge(s, Outcome(at, s), Outcome(at + split * s.outcome(), s), row, 1);
        finish(s, Outcome(at, s), head, 0, row, 1, out);
    });
}
