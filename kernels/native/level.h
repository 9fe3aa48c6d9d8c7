// Everything that is compiled once for each instruction set, in the namespace NAME.
#include <math.h>
#include <string.h>

#if LEVEL >= 1
#include <immintrin.h>
#endif

#include "level_table.h"
#include "longhand.h"
#include "team.h"

namespace NAME {

#include "lanes.h"
#include "linear.h"
#include "attention.h"
#include "block.h"

// What a call needs of its workspace, in floats: first what all members share, then the same for each.
struct Space {
    float *shared, *own;
    static Space of(void *work, int64_t shared, int64_t own, int index) {
        float *at = (float *)(((uintptr_t)work + 63) & ~(uintptr_t)63);
        return {at, at + shared + own * index};
    }
};

struct LinearCall {
    const LhLinear *w;
    const void *x;
    int64_t m;
    void *out, *work;
};

static int64_t linear_shared(const LhLinear &w, int64_t m) { return w.kind == LH_INT4 ? (m * (w.k / w.group) + 15) / 16 * 16 : 0; }

template <class A, class X> static void linear_by(void *argument, Member &member) {
    LinearCall &call = *(LinearCall *)argument;
    const LhLinear &w = *call.w;
    int64_t sums_size = linear_shared(w, call.m), inputs = (call.m * w.k + 15) / 16 * 16;
    bool converts = sizeof(A) != sizeof(X);
    Space space = Space::of(call.work, sums_size + (converts ? inputs : 0), LINEAR_OWN, member.index);
    const A *x = (const A *)call.x;
    if (converts) {  // bfloat16 rows where there are no products of bfloat16
        A *wide = (A *)(space.shared + sums_size);
        const X *from = (const X *)call.x;
        member.each(call.m, [&](int64_t r) {
            for (int64_t i = r * w.k; i < (r + 1) * w.k; i++) put(wide + i, widen(from[i]));
        });
        x = wide;
    }
    sum_groups(member, w, x, call.m, space.shared);
    X *out = (X *)call.out;
    member.each(tasks_of(w, call.m), [&](int64_t task) {
        Part part = task_product(w, x, space.shared, call.m, task, space.own);
        for (int64_t r = 0; r < part.rows; r++)
            for (int64_t i = 0; i < part.count; i++) put(out + (part.row + r) * w.n + part.n + i, space.own[r * WIDTH + i]);
    });
}

static void linear(const LhLinear *w, int dtype, const void *x, int64_t m, void *out, int threads, void *work) {
    LinearCall call{w, x, m, out, work};
#if LEVEL >= 3
    if (dtype == LH_BF16 && w->kind >= LH_CODES) {
        run_team(threads, linear_by<bf16, bf16>, &call);
        return;
    }
#endif
    run_team(threads, dtype == LH_BF16 ? linear_by<float, bf16> : linear_by<float, float>, &call);
}

static int64_t linear_workspace(const LhLinear *w, int64_t m, int threads) {
    return 4 * (linear_shared(*w, m) + (m * w->k + 15) / 16 * 16 + LINEAR_OWN * threads) + 64;
}

struct DequantizeCall {
    const LhLinear *w;
    void *out;
};

template <class X> static void dequantize_by(void *argument, Member &member) {
    DequantizeCall &call = *(DequantizeCall *)argument;
    const LhLinear &w = *call.w;
    const int64_t groups = w.k / w.group;
    Table table = load_table(w.table);
    member.each(quads_of(w) * QUAD, [&](int64_t tile) {
        const uint8_t *data = codes_of(w, tile);
        int64_t rows = w.n - tile * TILE < TILE ? w.n - tile * TILE : TILE;
        X *out = (X *)call.out + tile * TILE * w.k;
        for (int64_t g = 0; g < groups && rows > 0; g++) {
            V scale = group_scale(w, tile, g, groups);
            V offset = w.kind == LH_INT4 ? bytes(w.zeros + group_at(tile, g, groups)) : zero();
            for (int64_t i = g * w.group; i < (g + 1) * w.group; i += 8, data += 64 * QUAD) {
                Words words = load_words(data);
                float values[8][TILE];
#define TAKE(SHIFT, INPUT) store(values[INPUT], mul(sub(look_up<SHIFT>(table, words), offset), scale));
                TAKE(0, 0) TAKE(16, 1) TAKE(4, 2) TAKE(20, 3) TAKE(8, 4) TAKE(24, 5) TAKE(12, 6) TAKE(28, 7)
#undef TAKE
                for (int64_t r = 0; r < rows; r++)
                    for (int j = 0; j < 8; j++) put(out + r * w.k + i + j, values[j][r]);
            }
        }
    });
}

static void dequantize(const LhLinear *w, int dtype, void *out, int threads) {
    DequantizeCall call{w, out};
    run_team(threads, dtype == LH_BF16 ? dequantize_by<bf16> : dequantize_by<float>, &call);
}

static void rms_norm(int dtype, const void *x, const float *weight, float eps, int64_t m, int64_t size, void *out) {
    for (int64_t r = 0; r < m; r++)
        if (dtype == LH_BF16) norm_row((const bf16 *)x + r * size, weight, eps, size, (bf16 *)out + r * size);
        else norm_row((const float *)x + r * size, weight, eps, size, (float *)out + r * size);
}

static void swiglu(int dtype, const void *gate, const void *up, int64_t count, void *out) {
    if (dtype == LH_BF16) gated((const bf16 *)gate, (const bf16 *)up, count, (bf16 *)out);
    else gated((const float *)gate, (const float *)up, count, (float *)out);
}

static void rope(int dtype, void *x, const float *cos, const float *sin, int64_t m, int64_t heads, int64_t d) {
    for (int64_t r = 0; r < m; r++)
        for (int64_t h = 0; h < heads; h++) {
            int64_t at = (r * heads + h) * d;
            if (dtype == LH_BF16) rotate((const bf16 *)x + at, cos + r * d / 2, sin + r * d / 2, d, (bf16 *)x + at);
            else rotate((const float *)x + at, cos + r * d / 2, sin + r * d / 2, d, (float *)x + at);
        }
}

struct AttentionCall {
    Shape shape;
    const void *q, *keys, *values;
    void *out, *work;
};

template <class Way, class A, class C> static void attention_call(void *argument, Member &member) {
    AttentionCall &call = *(AttentionCall *)argument;
    Space space = Space::of(call.work, call.shape.shared(), call.shape.scratch(), member.index);
    attention_by<Way, A, C>(member, call.shape, (const A *)call.q, (const C *)call.keys, (const C *)call.values, (A *)call.out, space.own, space.shared);
}

static void attention(int dtype, int kv_dtype, const void *q, const void *keys, const void *values, int64_t m, int64_t positions,
                      int64_t heads, int64_t kv_heads, int64_t d, void *out, int threads, void *work) {
    AttentionCall call{Shape{m, positions, heads, kv_heads, d}, q, keys, values, out, work};
    TeamFunction function;
    if (dtype == LH_BF16) {
        function = kv_dtype == LH_BF16 ? attention_call<Plain<bf16, bf16>, bf16, bf16> : attention_call<Plain<bf16, float>, bf16, float>;
#if LEVEL >= 3
        if (kv_dtype == LH_BF16 && d % 32 == 0) function = attention_call<Pairs, bf16, bf16>;
#endif
    } else {
        function = kv_dtype == LH_BF16 ? attention_call<Plain<float, bf16>, float, bf16> : attention_call<Plain<float, float>, float, float>;
    }
    run_team(threads, function, &call);
}

static int64_t attention_workspace(int64_t m, int64_t positions, int64_t heads, int64_t kv_heads, int64_t d, int threads) {
    Shape s{m, positions, heads, kv_heads, d};
    return 4 * (s.shared() + s.scratch() * threads) + 64;
}

static void block(const LhBlock *b, void *x, int64_t m, const float *cos, const float *sin, void *keys, void *values,
                  int64_t position, int threads, void *work) {
    BlockCall call{b, x, cos, sin, keys, values, work, m, position};
    bool narrow = b->dtype == LH_BF16, narrow_cache = b->kv_dtype == LH_BF16;
    TeamFunction function;
    if (narrow) {
        function = narrow_cache ? block_by<Plain<float, bf16>, float, bf16, bf16> : block_by<Plain<float, float>, float, bf16, float>;
#if LEVEL >= 3
        if (b->q.kind >= LH_CODES) {
            function = block_by<Plain<bf16, float>, bf16, bf16, float>;
            if (narrow_cache) function = b->head_dim % 32 ? block_by<Plain<bf16, bf16>, bf16, bf16, bf16> : block_by<Pairs, bf16, bf16, bf16>;
        }
#endif
    } else {
        function = narrow_cache ? block_by<Plain<float, bf16>, float, float, bf16> : block_by<Plain<float, float>, float, float, float>;
    }
    run_team(threads, function, &call);
}

static int64_t block_workspace(const LhBlock *block, int64_t m, int64_t positions, int threads) {
    BlockSpace s(*block, m, positions);
    return 4 * (s.shared + s.own * threads) + 64;
}

}  // namespace NAME

const Level TABLE = {
    NAME::linear, NAME::linear_workspace, NAME::dequantize, NAME::rms_norm, NAME::swiglu, NAME::rope,
    NAME::attention, NAME::attention_workspace, NAME::block, NAME::block_workspace,
};
