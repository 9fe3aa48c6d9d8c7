// A whole decoder block: norm, q/k/v with bias, RoPE and cache write, attention, output and residual, norm, gate and up
// with SwiGLU, down and residual. Between the steps the members wait for each other.

// x / rms(x) * weight (arXiv 1910.07467), rounded once.
template <class X, class A> static void norm_row(const X *x, const float *weight, float eps, int64_t size, A *out) {
    int64_t whole = size / 16 * 16;
    V squares = zero();
    for (int64_t i = 0; i < whole; i += 16) {
        V value = load(x + i);
        squares = fma(value, value, squares);
    }
    float total = sum(squares);
    for (int64_t i = whole; i < size; i++) total += widen(x[i]) * widen(x[i]);
    float factor = 1.0f / sqrtf(total / (float)size + eps);
    for (int64_t i = 0; i < whole; i += 16) store(out + i, mul(mul(load(x + i), all(factor)), load(weight + i)));
    for (int64_t i = whole; i < size; i++) put(out + i, widen(x[i]) * factor * weight[i]);
}

static inline V silu_times(V gate, V up) {
    return mul(quotient(gate, add(all(1.0f), exponential(sub(zero(), gate)))), up);
}

// silu(gate) * up (arXiv 2002.05202).
template <class X, class A> static void gated(const X *gate, const X *up, int64_t count, A *out) {
    int64_t i = 0;
    for (; i + 16 <= count; i += 16) store(out + i, silu_times(load(gate + i), load(up + i)));
    if (i == count) return;
    float a[16] = {0}, b[16] = {0}, c[16];
    for (int64_t j = i; j < count; j++) a[j - i] = widen(gate[j]), b[j - i] = widen(up[j]);
    store(c, silu_times(load(a), load(b)));
    for (int64_t j = i; j < count; j++) put(out + j, c[j - i]);
}

// RoPE (arXiv 2104.09864): dimension i turns with i + d/2. to may be from.
template <class X, class A> static void rotate(const X *from, const float *cos, const float *sin, int64_t d, A *to) {
    int64_t half = d / 2, i = 0;
    for (; i + 16 <= half; i += 16) {
        V a = load(from + i), b = load(from + i + half), c = load(cos + i), s = load(sin + i);
        store(to + i, sub(mul(a, c), mul(b, s)));
        store(to + i + half, add(mul(b, c), mul(a, s)));
    }
    for (; i < half; i++) {
        float a = widen(from[i]), b = widen(from[i + half]);
        put(to + i, a * cos[i] - b * sin[i]);
        put(to + i + half, b * cos[i] + a * sin[i]);
    }
}

struct BlockCall {
    const LhBlock *block;
    void *x;
    const float *cos, *sin;
    void *keys, *values, *work;
    int64_t m, position;
};

// Where the parts of the workspace lie, in floats.
struct BlockSpace {
    Shape shape;
    int64_t inputs, projected, queries, hidden, sums, shared, own;
    static int64_t round(int64_t floats) { return (floats + 15) / 16 * 16; }
    BlockSpace(const LhBlock &b, int64_t m, int64_t positions) : shape{m, positions, b.heads, b.kv_heads, b.head_dim} {
        int64_t all = (int64_t)(b.heads + 2 * b.kv_heads) * b.head_dim, q = (int64_t)b.heads * b.head_dim;
        inputs = 0;                                // [m, hidden or q]: what a product takes
        projected = inputs + round(m * (b.hidden > q ? b.hidden : q));  // [m, q + k + v]
        queries = projected + round(m * all);      // [m, q], rotated
        hidden = queries + round(m * q);           // [m, intermediate]; attention's outcomes before
        int64_t here = round(m * b.intermediate);
        sums = hidden + (here > round(shape.shared()) ? here : round(shape.shared()));
        int64_t groups = 0;
        const LhLinear *taking[] = {&b.q, &b.o, &b.gate, &b.down};
        for (const LhLinear *w : taking)
            if (w->kind == LH_INT4 && w->k / w->group > groups) groups = w->k / w->group;
        shared = sums + round(m * groups);
        int64_t products = 2 * LINEAR_OWN;
        own = round(products > shape.scratch() ? products : shape.scratch());
    }
};

template <class A> static void sum_groups(Member &member, const LhLinear &w, const A *x, int64_t m, float *sums) {
    if (w.kind == LH_INT4) member.each(m, [&](int64_t r) { group_sums(w, x + r * w.k, sums + r * (w.k / w.group)); });
}

// x += product, rounded once.
template <class A, class X> static void add_product(Member &member, const LhLinear &w, const A *inputs, float *sums, int64_t m, float *own, X *x) {
    sum_groups(member, w, inputs, m, sums);
    member.each(tasks_of(w, m), [&](int64_t task) {
        Part part = task_product(w, inputs, sums, m, task, own);
        for (int64_t r = 0; r < part.rows; r++) {
            X *to = x + (part.row + r) * w.n + part.n;
            const float *from = own + r * WIDTH;
            for (int64_t i = 0; i < part.count; i++) put(to + i, widen(to[i]) + from[i]);
        }
    });
}

template <class Way, class A, class X, class C> static void block_by(void *argument, Member &member) {
    BlockCall &call = *(BlockCall *)argument;
    const LhBlock &b = *call.block;
    const int64_t m = call.m, d = b.head_dim, q_size = b.heads * d, kv_size = b.kv_heads * d, all_size = q_size + 2 * kv_size;
    BlockSpace space(b, m, call.position + m);
    float *shared = (float *)(((uintptr_t)call.work + 63) & ~(uintptr_t)63), *own = shared + space.shared + space.own * member.index;
    X *x = (X *)call.x;
    A *inputs = (A *)(shared + space.inputs), *queries = (A *)(shared + space.queries), *hidden = (A *)(shared + space.hidden);
    float *projected = shared + space.projected, *sums = shared + space.sums;
    C *keys = (C *)call.keys + call.position * kv_size, *values = (C *)call.values + call.position * kv_size;

    member.each(m, [&](int64_t r) { norm_row(x + r * b.hidden, b.norm1, b.eps, b.hidden, inputs + r * b.hidden); });

    sum_groups(member, b.q, inputs, m, sums);  // q, k and v are of one kind (native_ops.py), and share their inputs
    int64_t q_tasks = tasks_of(b.q, m), k_tasks = tasks_of(b.k, m), v_tasks = tasks_of(b.v, m);
    member.each(q_tasks + k_tasks + v_tasks, [&](int64_t task) {
        const LhLinear &w = task < q_tasks ? b.q : task < q_tasks + k_tasks ? b.k : b.v;
        int64_t column = task < q_tasks ? 0 : task < q_tasks + k_tasks ? q_size : q_size + kv_size;
        task -= task < q_tasks ? 0 : task < q_tasks + k_tasks ? q_tasks : q_tasks + k_tasks;
        Part part = task_product(w, inputs, sums, m, task, own);
        for (int64_t r = 0; r < part.rows; r++)
            memcpy(projected + (part.row + r) * all_size + column + part.n, own + r * WIDTH, part.count * 4);
    });

    const int64_t rows_heads = b.heads + 2 * b.kv_heads;
    member.each(m * rows_heads, [&](int64_t task) {
        const int64_t r = task / rows_heads, h = task % rows_heads, kv = h - b.heads, v = kv - b.kv_heads;
        const float *from = projected + r * all_size + h * d, *cos = call.cos + r * d / 2, *sin = call.sin + r * d / 2;
        if (kv < 0) rotate(from, cos, sin, d, queries + r * q_size + h * d);
        else if (v < 0) rotate(from, cos, sin, d, keys + r * kv_size + kv * d);
        else for (int64_t i = 0; i < d; i += 16) store(values + r * kv_size + v * d + i, load(from + i));
    });

    attention_by<Way, A, C>(member, space.shape, queries, (const C *)call.keys, (const C *)call.values, inputs, own, shared + space.hidden);
    add_product(member, b.o, inputs, sums, m, own, x);

    member.each(m, [&](int64_t r) { norm_row(x + r * b.hidden, b.norm2, b.eps, b.hidden, inputs + r * b.hidden); });
    sum_groups(member, b.gate, inputs, m, sums);
    member.each(tasks_of(b.gate, m), [&](int64_t task) {
        float *gate = own, *up = own + LINEAR_OWN;
        Part part = task_product(b.gate, inputs, sums, m, task, gate);
        task_product(b.up, inputs, sums, m, task, up);
        for (int64_t r = 0; r < part.rows; r++)
            gated(gate + r * WIDTH, up + r * WIDTH, part.count, hidden + (part.row + r) * b.intermediate + part.n);
    });
    add_product(member, b.down, hidden, sums, m, own, x);
}
