# As examples/c/train.c, with FFI::Platypus. usage: perl train.pl <libadamw.so> <checkpoint>
use v5.36;
use FFI::Platypus 2.00;
use FFI::Platypus::Buffer qw(scalar_to_pointer buffer_to_scalar);
use FFI::Platypus::Memory qw(calloc memcpy);

my ($library, $checkpoint) = @ARGV;
my ($N, $NUM_STEPS, $F32) = (64, 50, 1);

my $ffi = FFI::Platypus->new(api => 2, lib => $library);
$ffi->type('(string, opaque)->sint32' => 'adamw_decay_filter');
$ffi->attach(adamw_last_error => [] => 'string');
$ffi->attach(adamw_create => ['opaque', 'opaque*'] => 'sint32');
$ffi->attach(adamw_destroy => ['opaque'] => 'sint32');
$ffi->attach(adamw_set_lr => ['opaque', 'double'] => 'sint32');
$ffi->attach(adamw_set_decay_filter => ['opaque', 'adamw_decay_filter', 'opaque'] => 'sint32');
$ffi->attach(adamw_add_array => ['opaque', 'string', 'opaque', 'uint64', 'uint32', 'uint32*'] => 'sint32');
$ffi->attach(adamw_set_grad_array => ['opaque', 'uint32', 'opaque', 'uint64', 'uint32'] => 'sint32');
$ffi->attach(adamw_step => ['opaque'] => 'sint32');
$ffi->attach(adamw_save => ['opaque', 'string'] => 'sint32');
$ffi->attach(adamw_load => ['opaque', 'string', 'opaque'] => 'sint32');

# The library keeps addresses, so the memory is C's.
my ($weight, $bias, $weight_grad, $bias_grad) = map { calloc($N, 4) } 1 .. 4;
my $decays = $ffi->closure(sub ($name, $) { $name eq 'bias' ? 0 : 1 });

sub check ($status) { die adamw_last_error() if $status }

sub bytes ($data) { buffer_to_scalar($data, 4 * $N) }

sub floats ($data) { unpack 'f*', bytes($data) }

sub write_floats ($data, @floats) {
  my $packed = pack 'f*', @floats;
  memcpy($data, scalar_to_pointer($packed), 4 * $N);
}

sub add ($optimizer, $name, $param, $grad) {
  check(adamw_add_array($optimizer, $name, $param, $N, $F32, \my $number));
  check(adamw_set_grad_array($optimizer, $number, $grad, $N, $F32));
}

sub new_optimizer {
  check(adamw_create(undef, \my $optimizer));
  check(adamw_set_lr($optimizer, 0.05));
  check(adamw_set_decay_filter($optimizer, $decays, undef));
  add($optimizer, 'weight', $weight, $weight_grad);
  add($optimizer, 'bias', $bias, $bias_grad);
  return $optimizer;
}

sub train ($optimizer) {
  for (1 .. $NUM_STEPS) {
    my @weight = floats($weight);
    my @bias = floats($bias);
    write_floats($weight_grad, map { $weight[$_] - $_ / 16 } 0 .. $N - 1);
    write_floats($bias_grad, map { $bias[$_] + $_ / 16 } 0 .. $N - 1);
    check(adamw_step($optimizer));
  }
}

my $optimizer = new_optimizer();
train($optimizer);
check(adamw_save($optimizer, $checkpoint));
check(adamw_destroy($optimizer));

$optimizer = new_optimizer();
check(adamw_load($optimizer, $checkpoint, undef));
train($optimizer);
check(adamw_destroy($optimizer));

my ($a, $b) = (1, 0);
for my $byte (unpack 'C*', bytes($weight) . bytes($bias)) {
  $a = ($a + $byte) % 65521;
  $b = ($b + $a) % 65521;
}
printf "%04X%04X\n", $b, $a;
