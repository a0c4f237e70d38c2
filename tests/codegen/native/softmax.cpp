// out = dropout(softmax(Q K^T / sqrt(D))) V and its gradients, by hand.

constexpr long OWN = 64, LOOP = 64;

// tensors: q, k, v, out [B, H, S, D]; kept: logsumexp [B, H, 2, S], of real tokens, in
// order: its maximum and, in base 2, the rest
EXPORTED int forward(
    const Tensor* tensors, float* const* kept, const uint8_t* mask, const Shape* shape, const Dropout* dropout,
    int threads
) {
    long batch = shape->batch, heads = shape->heads, tokens = shape->tokens, head_dim = shape->head_dim;
    float* logsumexp = kept[0];
    long blocks = (tokens + OWN - 1) / OWN;
    float scale = 1.0f / __builtin_sqrtf((float)head_dim);
    int32_t* counts = (int32_t*)malloc(sizeof(int32_t) * (batch + 1));
    if (!counts) return 1;
    int32_t* positions = real_tokens(mask, batch, tokens, counts);
    size_t floats = 4 * OWN * padded(head_dim) + OWN * padded(head_dim, ROWS) + OWN * LOOP + 3 * OWN;
    bool done = run(batch * heads * blocks, threads, floats, [=](long program, float* scratch) {
        long block = program % blocks, head = program / blocks, b = head / heads, h = head % heads;
        long count = counts[b], first = block * OWN;
        const int32_t* real = positions ? positions + b * tokens : nullptr;
        Head q_head = head_of(tensors[0], b, h, real), k_head = head_of(tensors[1], b, h, real);
        Head v_head = head_of(tensors[2], b, h, real), out_head = head_of(tensors[3], b, h, real);
        if (block == 0) clear_padding(out_head, tokens, count, head_dim);
        if (first >= count) return;
        long own = smaller(OWN, count - first);
        Tile q_place = take(scratch, OWN, head_dim), k_place = take(scratch, LOOP, head_dim);
        Tile v_place = take(scratch, LOOP, head_dim), q_columns = take(scratch, head_dim, OWN);
        Tile p = take(scratch, LOOP, OWN), out = take(scratch, OWN, head_dim);
        float maximum[OWN], weight_sum[OWN], repair[OWN];

        Tile q = load(q_head, first, own, head_dim, q_place);
        transpose(own, head_dim, q, q_columns);
        // The scalar goes into the operand that is there once.
        for (long d = 0; d < head_dim; d++)
            for (long c = 0; c < own; c += WIDTH) put(row_of(q_columns, d) + c, at(row_of(q_columns, d) + c) * scale);
        fill(out, OWN, head_dim, 0.0f);
        for (long c = 0; c < OWN; c++) maximum[c] = LOWEST, weight_sum[c] = 0.0f;
        for (long j = 0; j < count; j += LOOP) {
            long loop = smaller(LOOP, count - j);
            Tile k = load(k_head, j, loop, head_dim, k_place);
            multiply(loop, own, head_dim, k, q_columns, p);
            if (add_weights(loop, own, p, maximum, weight_sum, repair)) scale_rows(own, head_dim, out, repair);
            if (dropout->p > 0.0f)
                for (long c = 0; c < own; c += WIDTH) {
                    Integers row = positions_at(real, first + c, count);
                    for (long r = 0; r < loop; r++) {
                        Integers column = Integers{} + (real ? real[j + r] : (int32_t)(j + r));
                        Vector keeps = keep(dropout->seed, 0, (int32_t)head, row, column, dropout->p);
                        put(row_of(p, r) + c, at(row_of(p, r) + c) * keeps);
                    }
                }
            Tile v = load(v_head, j, loop, head_dim, v_place);
            multiply_transposed(own, head_dim, loop, p, v, out, true);
        }
        for (long c = 0; c < own; c++) {
            logsumexp[head * 2 * tokens + first + c] = maximum[c];
            repair[c] = 1.0f / weight_sum[c];
        }
        for (long c = 0; c < own; c += WIDTH) put(weight_sum + c, log2(at(weight_sum + c)));
        memcpy(logsumexp + (head * 2 + 1) * tokens + first, weight_sum, own * sizeof(float));
        scale_rows(own, head_dim, out, repair);
        store(out_head, first, own, head_dim, out);
    });
    free(positions);
    free(counts);
    return done ? 0 : 1;
}

// tensors: q, k, v, out, g, dq, dk, dv [B, H, S, D]; one pass over pairs of blocks, a program owns a head
EXPORTED int backward(
    const Tensor* tensors, float* const* kept, const uint8_t* mask, const Shape* shape, const Dropout* dropout,
    int threads
) {
    long batch = shape->batch, heads = shape->heads, tokens = shape->tokens, head_dim = shape->head_dim;
    const float* logsumexp = kept[0];
    float scale = 1.0f / __builtin_sqrtf((float)head_dim);
    int32_t* counts = (int32_t*)malloc(sizeof(int32_t) * (batch + 1));
    if (!counts) return 1;
    int32_t* positions = real_tokens(mask, batch, tokens, counts);
    size_t floats = 6 * OWN * padded(head_dim) + 2 * OWN * padded(head_dim, ROWS) + 2 * OWN * LOOP;
    floats += padded(tokens, OWN) * (padded(head_dim) + 1);
    bool done = run(batch * heads, threads, floats, [=](long head, float* scratch) {
        long h = head % heads, b = head / heads, count = counts[b];
        const int32_t* real = positions ? positions + b * tokens : nullptr;
        Head q_head = head_of(tensors[0], b, h, real), k_head = head_of(tensors[1], b, h, real);
        Head v_head = head_of(tensors[2], b, h, real), out_head = head_of(tensors[3], b, h, real);
        Head g_head = head_of(tensors[4], b, h, real), dq_head = head_of(tensors[5], b, h, real);
        Head dk_head = head_of(tensors[6], b, h, real), dv_head = head_of(tensors[7], b, h, real);
        clear_padding(dq_head, tokens, count, head_dim);
        clear_padding(dk_head, tokens, count, head_dim);
        clear_padding(dv_head, tokens, count, head_dim);
        const float *maximum = logsumexp + head * 2 * tokens, *rest = maximum + tokens;
        Tile q_place = take(scratch, LOOP, head_dim), g_place = take(scratch, LOOP, head_dim);
        Tile k_place = take(scratch, OWN, head_dim), v_place = take(scratch, OWN, head_dim);
        Tile k_columns = take(scratch, head_dim, OWN), v_columns = take(scratch, head_dim, OWN);
        Tile p = take(scratch, LOOP, OWN), ds = take(scratch, LOOP, OWN);
        Tile dk = take(scratch, OWN, head_dim), dv = take(scratch, OWN, head_dim);
        Tile dq = take(scratch, count, head_dim);
        float* delta = scratch;  // [S]: rowsum(out g)
        for (long i = 0; i < count; i += LOOP) {
            long loop = smaller(LOOP, count - i);
            Tile out = load(out_head, i, loop, head_dim, q_place), g = load(g_head, i, loop, head_dim, g_place);
            for (long r = 0; r < loop; r++) delta[i + r] = sum_of_products(row_of(out, r), row_of(g, r), head_dim);
        }
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
                for (long r = 0; r < loop; r++) {
                    float most = maximum[i + r], other = rest[i + r], row_term = delta[i + r];
                    Integers row = Integers{} + (real ? real[i + r] : (int32_t)(i + r));
                    for (long c = 0; c < own; c += WIDTH) {
                        Vector scores = at(row_of(p, r) + c), dp = at(row_of(ds, r) + c);
                        Vector weights = exp2_of_negative((scale * scores - most) * LOG2E - other);
                        Vector keeps = all(1.0f);
                        if (dropout->p > 0.0f)
                            keeps = keep(
                                dropout->seed, 0, (int32_t)head, row, positions_at(real, j + c, count), dropout->p
                            );
                        put(row_of(p, r) + c, weights * keeps);
                        put(row_of(ds, r) + c, weights * (dp * keeps - row_term));
                    }
                }
                multiply_transposed(own, head_dim, loop, p, g, dv, true);
                multiply_transposed(own, head_dim, loop, ds, q, dk, true);
                multiply(loop, head_dim, own, ds, k, {row_of(dq, i), dq.row}, j > 0);
            }
            for (long r = 0; r < own; r++)
                for (long c = 0; c < head_dim; c += WIDTH) put(row_of(dk, r) + c, at(row_of(dk, r) + c) * scale);
            store(dk_head, j, own, head_dim, dk);
            store(dv_head, j, own, head_dim, dv);
        }
        for (long r = 0; r < count; r++)
            for (long c = 0; c < head_dim; c += WIDTH) put(row_of(dq, r) + c, at(row_of(dq, r) + c) * scale);
        store(dq_head, 0, count, head_dim, dq);
    });
    free(positions);
    free(counts);
    return done ? 0 : 1;
}
