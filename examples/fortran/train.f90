! As examples/c/train.c, with iso_c_binding. usage: train <checkpoint>
module adamw
  use iso_c_binding
  implicit none
  integer(c_int32_t), parameter :: ADAMW_DTYPE_F32 = 1

  interface
    function adamw_last_error() bind(c)
      import; type(c_ptr) :: adamw_last_error
    end function
    integer(c_int32_t) function adamw_create(config, optimizer) bind(c)
      import; type(c_ptr), value :: config; type(c_ptr) :: optimizer
    end function
    integer(c_int32_t) function adamw_destroy(optimizer) bind(c)
      import; type(c_ptr), value :: optimizer
    end function
    integer(c_int32_t) function adamw_set_lr(optimizer, lr) bind(c)
      import; type(c_ptr), value :: optimizer; real(c_double), value :: lr
    end function
    integer(c_int32_t) function adamw_set_decay_filter(optimizer, filter, user_data) bind(c)
      import; type(c_ptr), value :: optimizer, user_data; type(c_funptr), value :: filter
    end function
    integer(c_int32_t) function adamw_add_array(optimizer, name, data, n, dtype, param) bind(c)
      import; type(c_ptr), value :: optimizer, data; character(kind=c_char) :: name(*)
      integer(c_int64_t), value :: n; integer(c_int32_t), value :: dtype; integer(c_int32_t) :: param
    end function
    integer(c_int32_t) function adamw_set_grad_array(optimizer, param, data, n, dtype) bind(c)
      import; type(c_ptr), value :: optimizer, data
      integer(c_int64_t), value :: n; integer(c_int32_t), value :: param, dtype
    end function
    integer(c_int32_t) function adamw_step(optimizer) bind(c)
      import; type(c_ptr), value :: optimizer
    end function
    integer(c_int32_t) function adamw_save(optimizer, path) bind(c)
      import; type(c_ptr), value :: optimizer; character(kind=c_char) :: path(*)
    end function
    integer(c_int32_t) function adamw_load(optimizer, path, options) bind(c)
      import; type(c_ptr), value :: optimizer, options; character(kind=c_char) :: path(*)
    end function
    integer(c_size_t) function strlen(text) bind(c)
      import; type(c_ptr), value :: text
    end function
  end interface
end module

! A callback is a procedure of a module: one of the program's own would need an executable stack.
module filter
  use adamw
  implicit none
contains
  integer(c_int32_t) function decays(name, user_data) bind(c)
    type(c_ptr), value :: name, user_data
    character(kind=c_char), pointer :: text(:)
    call c_f_pointer(name, text, [strlen(name)])
    decays = merge(0, 1, transfer(text, repeat(' ', size(text))) == 'bias')
  end function
end module

program main
  use filter
  implicit none
  integer, parameter :: n = 64, num_steps = 50
  ! `target`: the library keeps the addresses.
  real(c_float), target :: weight(n) = 0, bias(n) = 0, weight_grad(n), bias_grad(n)
  character(1000) :: checkpoint
  type(c_ptr) :: optimizer
  integer :: i, a, b
  integer(c_int8_t) :: bytes(8 * n)

  call get_command_argument(1, checkpoint)
  optimizer = new_optimizer()
  call train(optimizer)
  call check(adamw_save(optimizer, trim(checkpoint) // c_null_char))
  call check(adamw_destroy(optimizer))

  optimizer = new_optimizer()
  call check(adamw_load(optimizer, trim(checkpoint) // c_null_char, c_null_ptr))
  call train(optimizer)
  call check(adamw_destroy(optimizer))

  bytes = transfer([weight, bias], bytes)
  a = 1
  b = 0
  do i = 1, 8 * n
    a = mod(a + iand(int(bytes(i)), 255), 65521)
    b = mod(b + a, 65521)
  end do
  print '(2z4.4)', b, a

contains

  subroutine check(status)
    integer(c_int32_t), intent(in) :: status
    character(kind=c_char), pointer :: text(:)
    type(c_ptr) :: error
    if (status == 0) return
    error = adamw_last_error()
    call c_f_pointer(error, text, [strlen(error)])
    print *, text
    stop 1
  end subroutine

  function new_optimizer() result(optimizer)
    type(c_ptr) :: optimizer
    call check(adamw_create(c_null_ptr, optimizer))
    call check(adamw_set_lr(optimizer, 0.05d0))
    call check(adamw_set_decay_filter(optimizer, c_funloc(decays), c_null_ptr))
    call add(optimizer, 'weight', weight, weight_grad)
    call add(optimizer, 'bias', bias, bias_grad)
  end function

  subroutine add(optimizer, name, param, grad)
    type(c_ptr), intent(in) :: optimizer
    character(*), intent(in) :: name
    real(c_float), target, intent(in) :: param(n), grad(n)
    integer(c_int32_t) :: number
    call check(adamw_add_array(optimizer, name // c_null_char, c_loc(param), int(n, c_int64_t), &
                               ADAMW_DTYPE_F32, number))
    call check(adamw_set_grad_array(optimizer, number, c_loc(grad), int(n, c_int64_t), ADAMW_DTYPE_F32))
  end subroutine

  subroutine train(optimizer)
    type(c_ptr), intent(in) :: optimizer
    integer :: step
    do step = 1, num_steps
      weight_grad = weight - [(real(i, c_float) / 16, i = 0, n - 1)]
      bias_grad = bias + [(real(i, c_float) / 16, i = 0, n - 1)]
      call check(adamw_step(optimizer))
    end do
  end subroutine
end program
