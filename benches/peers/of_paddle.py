"""Paddle's AdamW. It has one thread for each that OMP_NUM_THREADS names."""

import paddle


def paddle_adamw(case, threads):
    paddle.set_device("cpu")
    clip = paddle.nn.ClipGradByGlobalNorm(1.0) if case.name == "clip-clear" else None
    params = []
    for n in case.lengths:
        param = paddle.create_parameter([n], "float32", default_initializer=paddle.nn.initializer.Constant(0.5))
        param.grad = paddle.full([n], 0.01)
        params.append(param)
    optimizer = paddle.optimizer.AdamW(1e-3, parameters=params, weight_decay=0.01, grad_clip=clip)

    def step():
        optimizer.step()
        if clip:
            optimizer.clear_grad(set_to_zero=True)

    return step, params
