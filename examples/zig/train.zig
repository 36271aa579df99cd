// As examples/c/train.c, with what `zig translate-c` makes of the header. usage: train <checkpoint>
const adamw = @import("adamw.zig");

extern fn printf(format: [*:0]const u8, ...) c_int;
extern fn exit(status: c_int) noreturn;

const n = 64;
const num_steps = 50;

var weight: [n]f32 = @splat(0);
var bias: [n]f32 = @splat(0);
var weight_grad: [n]f32 = @splat(0);
var bias_grad: [n]f32 = @splat(0);

fn check(status: adamw.adamw_status) void {
    if (status != adamw.ADAMW_STATUS_OK) {
        _ = printf("%s\n", adamw.adamw_last_error());
        exit(1);
    }
}

fn decays(name: [*c]const u8, _: ?*anyopaque) callconv(.c) i32 {
    return if (name[0] == 'b') 0 else 1;
}

fn add(optimizer: ?*adamw.adamw_optimizer, name: [*:0]const u8, param: *[n]f32, grad: *[n]f32) void {
    var number: u32 = undefined;
    check(adamw.adamw_add_array(optimizer, name, param, n, adamw.ADAMW_DTYPE_F32, &number));
    check(adamw.adamw_set_grad_array(optimizer, number, grad, n, adamw.ADAMW_DTYPE_F32));
}

fn newOptimizer() ?*adamw.adamw_optimizer {
    var optimizer: ?*adamw.adamw_optimizer = null;
    check(adamw.adamw_create(null, &optimizer));
    check(adamw.adamw_set_lr(optimizer, 0.05));
    check(adamw.adamw_set_decay_filter(optimizer, decays, null));
    add(optimizer, "weight", &weight, &weight_grad);
    add(optimizer, "bias", &bias, &bias_grad);
    return optimizer;
}

fn train(optimizer: ?*adamw.adamw_optimizer) void {
    for (0..num_steps) |_| {
        for (0..n) |i| {
            const target = @as(f32, @floatFromInt(i)) / 16;
            weight_grad[i] = weight[i] - target;
            bias_grad[i] = bias[i] + target;
        }
        check(adamw.adamw_step(optimizer));
    }
}

pub export fn main(argc: c_int, argv: [*][*:0]const u8) c_int {
    if (argc != 2) return 2;
    var optimizer = newOptimizer();
    train(optimizer);
    check(adamw.adamw_save(optimizer, argv[1]));
    check(adamw.adamw_destroy(optimizer));

    optimizer = newOptimizer();
    check(adamw.adamw_load(optimizer, argv[1], null));
    train(optimizer);
    check(adamw.adamw_destroy(optimizer));

    var a: c_uint = 1;
    var b: c_uint = 0;
    for ([_]*const [4 * n]u8{ @ptrCast(&weight), @ptrCast(&bias) }) |bytes| {
        for (bytes) |byte| {
            a = (a + byte) % 65521;
            b = (b + a) % 65521;
        }
    }
    _ = printf("%08X\n", b << 16 | a);
    return 0;
}
