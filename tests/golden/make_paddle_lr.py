"""Prints the traces of paddle_lr.json from a real paddlepaddle (CPU), for the arguments in it.

    pip install paddlepaddle==3.3.1
    python make_paddle_lr.py paddle_lr.json
"""
import json
import sys

import paddle

FUNCTIONS = {"0.95**e": lambda e: 0.95**e, "0.95": lambda e: 0.95}


def schedule(of):
    args = dict(of["args"])
    if isinstance(args.get("learning_rate"), dict):
        args["learning_rate"] = schedule(args["learning_rate"])
    if "lr_lambda" in args:
        args["lr_lambda"] = FUNCTIONS[args["lr_lambda"]]
    return getattr(paddle.optimizer.lr, of["class"])(**args)


traces = json.load(open(sys.argv[1]))
for trace in traces:
    running = schedule(trace)
    trace["lr"] = [running()]
    for call in range(30):
        running.step(*[trace["metrics"][call]] if "metrics" in trace else [])
        trace["lr"].append(running())
print(json.dumps(traces, indent=1))
