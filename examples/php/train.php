<?php
// As examples/c/train.c, with FFI. usage: php -d ffi.enable=1 train.php <libadamw.so> <checkpoint>
const N = 64, NUM_STEPS = 50, F32 = 1;

[, $library, $checkpoint] = $argv;

$adamw = FFI::cdef('
    typedef struct adamw_optimizer adamw_optimizer;
    typedef int32_t (*adamw_decay_filter)(const char *name, void *user_data);
    const char *adamw_last_error(void);
    int32_t adamw_create(const void *config, adamw_optimizer **out_optimizer);
    int32_t adamw_destroy(adamw_optimizer *optimizer);
    int32_t adamw_set_lr(adamw_optimizer *optimizer, double lr);
    int32_t adamw_set_decay_filter(adamw_optimizer *optimizer, adamw_decay_filter filter, void *user_data);
    int32_t adamw_add_array(adamw_optimizer *optimizer, const char *name, void *data, uint64_t n, uint32_t dtype,
                            uint32_t *out_param);
    int32_t adamw_set_grad_array(adamw_optimizer *optimizer, uint32_t param, const void *data, uint64_t n, uint32_t dtype);
    int32_t adamw_step(adamw_optimizer *optimizer);
    int32_t adamw_save(adamw_optimizer *optimizer, const char *path);
    int32_t adamw_load(adamw_optimizer *optimizer, const char *path, const void *options);
', $library);

function check(int $status): void
{
    global $adamw;
    if ($status !== 0) {
        throw new RuntimeException($adamw->adamw_last_error());
    }
}

// The library keeps addresses: these arrays live as long as the program, and FFI does not move them.
[$weight, $bias, $weightGrad, $biasGrad] = array_map(fn() => FFI::new('float[' . N . ']'), range(1, 4));

// A function of PHP in C's hands must be kept, too.
$decays = fn(string $name, $userData): int => $name === 'bias' ? 0 : 1;

function add(FFI\CData $optimizer, string $name, FFI\CData $param, FFI\CData $grad): void
{
    global $adamw;
    $number = FFI::new('uint32_t');
    check($adamw->adamw_add_array($optimizer, $name, $param, N, F32, FFI::addr($number)));
    check($adamw->adamw_set_grad_array($optimizer, $number->cdata, $grad, N, F32));
}

function newOptimizer(): FFI\CData
{
    global $adamw, $decays, $weight, $bias, $weightGrad, $biasGrad;
    $optimizer = $adamw->new('adamw_optimizer *');
    check($adamw->adamw_create(null, FFI::addr($optimizer)));
    check($adamw->adamw_set_lr($optimizer, 0.05));
    check($adamw->adamw_set_decay_filter($optimizer, $decays, null));
    add($optimizer, 'weight', $weight, $weightGrad);
    add($optimizer, 'bias', $bias, $biasGrad);
    return $optimizer;
}

function train(FFI\CData $optimizer): void
{
    global $adamw, $weight, $bias, $weightGrad, $biasGrad;
    for ($step = 0; $step < NUM_STEPS; $step++) {
        for ($i = 0; $i < N; $i++) {
            $weightGrad[$i] = $weight[$i] - $i / 16;
            $biasGrad[$i] = $bias[$i] + $i / 16;
        }
        check($adamw->adamw_step($optimizer));
    }
}

$optimizer = newOptimizer();
train($optimizer);
check($adamw->adamw_save($optimizer, $checkpoint));
check($adamw->adamw_destroy($optimizer));

$optimizer = newOptimizer();
check($adamw->adamw_load($optimizer, $checkpoint, null));
train($optimizer);
check($adamw->adamw_destroy($optimizer));

$bytes = FFI::string($weight, 4 * N) . FFI::string($bias, 4 * N);
echo strtoupper(hash('adler32', $bytes)), "\n";
