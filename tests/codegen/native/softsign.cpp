// out = softsign(Q K^T) V and its gradients, by hand, as the printer of tile programs shall write them.

constexpr long OWN = 64, LOOP = 64;

// tensors: q, k, v, out [B, H, S, D]
EXPORTED int forward(
    const Tensor* tensors, float* const*, const uint8_t* mask, const Shape* shape, const Dropout*, int threads
) {
    long batch = shape->batch, heads = shape->heads, tokens = shape->tokens, head_dim = shape->head_dim;
    int32_t* counts = (int32_t*)malloc(sizeof(int32_t) * (batch + 1));
    if (!counts) return 1;
    int32_t* positions = real_tokens(mask, batch, tokens, counts);
    long blocks = (tokens + OWN - 1) / OWN;
    size_t floats = 4 * OWN * padded(head_dim) + OWN * padded(head_dim, ROWS) + OWN * LOOP;
    bool done = run(batch * heads * blocks, threads, floats, [=](long program, float* scratch) {
        long block = program % blocks, head = program / blocks % heads, b = program / blocks / heads;
        long count = counts[b], first = block * OWN;
        const int32_t* real = positions ? positions + b * tokens : nullptr;
        Head q_head = head_of(tensors[0], b, head, real), k_head = head_of(tensors[1], b, head, real);
        Head v_head = head_of(tensors[2], b, head, real), out_head = head_of(tensors[3], b, head, real);
        if (block == 0) clear_padding(out_head, tokens, count, head_dim);
        if (first >= count) return;
        long own = smaller(OWN, count - first);
        Tile q_place = take(scratch, OWN, head_dim), k_place = take(scratch, LOOP, head_dim);
        Tile v_place = take(scratch, LOOP, head_dim), q_columns = take(scratch, head_dim, OWN);
        Tile p = take(scratch, LOOP, OWN), out = take(scratch, OWN, head_dim);

        Tile q = load(q_head, first, own, head_dim, q_place);
        transpose(own, head_dim, q, q_columns);
        fill(out, OWN, head_dim, 0.0f);
        for (long j = 0; j < count; j += LOOP) {
            long loop = smaller(LOOP, count - j);
            Tile k = load(k_head, j, loop, head_dim, k_place);
            multiply(loop, own, head_dim, k, q_columns, p);
            for (long r = 0; r < loop; r++)
                for (long c = 0; c < own; c += WIDTH) put(row_of(p, r) + c, softsign(at(row_of(p, r) + c)));
            Tile v = load(v_head, j, loop, head_dim, v_place);
            multiply_transposed(own, head_dim, loop, p, v, out, true);
        }
        store(out_head, first, own, head_dim, out);
    });
    free(positions);
    free(counts);
    return done ? 0 : 1;
}

// tensors: q, k, v, g, dq, dk, dv [B, H, S, D]; one pass over pairs of blocks, a program owns a head
EXPORTED int backward(
    const Tensor* tensors, float* const*, const uint8_t* mask, const Shape* shape, const Dropout*, int threads
) {
    long batch = shape->batch, heads = shape->heads, tokens = shape->tokens, head_dim = shape->head_dim;
    int32_t* counts = (int32_t*)malloc(sizeof(int32_t) * (batch + 1));
    if (!counts) return 1;
    int32_t* positions = real_tokens(mask, batch, tokens, counts);
    size_t floats = 6 * OWN * padded(head_dim) + 2 * OWN * padded(head_dim, ROWS) + 2 * OWN * LOOP;
    floats += padded(tokens, OWN) * padded(head_dim);
    bool done = run(batch * heads, threads, floats, [=](long program, float* scratch) {
        long head = program % heads, b = program / heads, count = counts[b];
        const int32_t* real = positions ? positions + b * tokens : nullptr;
        Head q_head = head_of(tensors[0], b, head, real), k_head = head_of(tensors[1], b, head, real);
        Head v_head = head_of(tensors[2], b, head, real), g_head = head_of(tensors[3], b, head, real);
        Head dq_head = head_of(tensors[4], b, head, real), dk_head = head_of(tensors[5], b, head, real);
        Head dv_head = head_of(tensors[6], b, head, real);
        clear_padding(dq_head, tokens, count, head_dim);
        clear_padding(dk_head, tokens, count, head_dim);
        clear_padding(dv_head, tokens, count, head_dim);
        Tile q_place = take(scratch, LOOP, head_dim), g_place = take(scratch, LOOP, head_dim);
        Tile k_place = take(scratch, OWN, head_dim), v_place = take(scratch, OWN, head_dim);
        Tile k_columns = take(scratch, head_dim, OWN), v_columns = take(scratch, head_dim, OWN);
        Tile p = take(scratch, LOOP, OWN), ds = take(scratch, LOOP, OWN);
        Tile dk = take(scratch, OWN, head_dim), dv = take(scratch, OWN, head_dim);
        Tile dq = take(scratch, count, head_dim);
        for (long j = 0; j < count; j += OWN) {
            long own = smaller(OWN, count - j);
            Tile k = load(k_head, j, own, head_dim, k_place), v = load(v_head, j, own, head_dim, v_place);
            transpose(own, head_dim, k, k_columns);
            transpose(own, head_dim, v, v_columns);
            fill(dk, OWN, head_dim, 0.0f);
            fill(dv, OWN, head_dim, 0.0f);
            for (long i = 0; i < count; i += LOOP) {
                long loop = smaller(LOOP, count - i);
                Tile q = load(q_head, i, loop, head_dim, q_place), g = load(g_head, i, loop, head_dim, g_place);
                multiply(loop, own, head_dim, q, k_columns, p);
                multiply(loop, own, head_dim, g, v_columns, ds);
                for (long r = 0; r < loop; r++)
                    for (long c = 0; c < own; c += WIDTH) {
                        Vector scores = at(row_of(p, r) + c), dp = at(row_of(ds, r) + c);
                        Vector inverse = 1.0f / (1.0f + absolute(scores));
                        put(row_of(p, r) + c, scores * inverse);
                        put(row_of(ds, r) + c, dp * (inverse * inverse));
                    }
                multiply_transposed(own, head_dim, loop, p, g, dv, true);
                multiply_transposed(own, head_dim, loop, ds, q, dk, true);
                multiply(loop, head_dim, own, ds, k, {row_of(dq, i), dq.row}, j > 0);
            }
            store(dk_head, j, own, head_dim, dk);
            store(dv_head, j, own, head_dim, dv);
        }
        store(dq_head, 0, count, head_dim, dq);
    });
    free(positions);
    free(counts);
    return done ? 0 : 1;
}
