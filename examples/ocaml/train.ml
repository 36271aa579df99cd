(* As examples/c/train.c, with ctypes. usage: train <libadamw.so> <checkpoint> *)
open Ctypes

let n = 64
let num_steps = 50
let f32 = Unsigned.UInt32.of_int 1
let library, checkpoint = Sys.argv.(1), Sys.argv.(2)
let from = Dl.dlopen ~filename:library ~flags:[ Dl.RTLD_NOW ]
let foreign name typ = Foreign.foreign ~from name typ

let last_error = foreign "adamw_last_error" (void @-> returning string)
let create = foreign "adamw_create" (ptr void @-> ptr (ptr void) @-> returning int32_t)
let destroy = foreign "adamw_destroy" (ptr void @-> returning int32_t)
let set_lr = foreign "adamw_set_lr" (ptr void @-> double @-> returning int32_t)

let decay_filter = Foreign.funptr (string @-> ptr void @-> returning int32_t)

let set_decay_filter =
  foreign "adamw_set_decay_filter" (ptr void @-> decay_filter @-> ptr void @-> returning int32_t)

let add_array =
  foreign "adamw_add_array"
    (ptr void @-> string @-> ptr float @-> uint64_t @-> uint32_t @-> ptr uint32_t @-> returning int32_t)

let set_grad_array =
  foreign "adamw_set_grad_array"
    (ptr void @-> uint32_t @-> ptr float @-> uint64_t @-> uint32_t @-> returning int32_t)

let step = foreign "adamw_step" (ptr void @-> returning int32_t)
let save = foreign "adamw_save" (ptr void @-> string @-> returning int32_t)
let load = foreign "adamw_load" (ptr void @-> string @-> ptr void @-> returning int32_t)
let check status = if status <> 0l then failwith (last_error ())

(* The library keeps addresses: these arrays are C's memory, and live as long as the program. *)
let array () = CArray.make float n ~initial:0.
let weight, bias, weight_grad, bias_grad = array (), array (), array (), array ()

(* A function of OCaml in C's hands must be kept, too. *)
let decays name _ = if name = "bias" then 0l else 1l

let add optimizer name param grad =
  let number = allocate uint32_t Unsigned.UInt32.zero and n = Unsigned.UInt64.of_int n in
  check (add_array optimizer name (CArray.start param) n f32 number);
  check (set_grad_array optimizer !@number (CArray.start grad) n f32)

let new_optimizer () =
  let out = allocate (ptr void) null in
  check (create null out);
  let optimizer = !@out in
  check (set_lr optimizer 0.05);
  check (set_decay_filter optimizer decays null);
  add optimizer "weight" weight weight_grad;
  add optimizer "bias" bias bias_grad;
  optimizer

let train optimizer =
  for _ = 1 to num_steps do
    for i = 0 to n - 1 do
      CArray.set weight_grad i (CArray.get weight i -. (float_of_int i /. 16.));
      CArray.set bias_grad i (CArray.get bias i +. (float_of_int i /. 16.))
    done;
    check (step optimizer)
  done

let adler32 bytes =
  let a, b =
    String.fold_left
      (fun (a, b) byte ->
        let a = (a + Char.code byte) mod 65521 in
        a, (b + a) mod 65521)
      (1, 0) bytes
  in
  (b lsl 16) lor a

let bytes array = string_from_ptr (coerce (ptr float) (ptr char) (CArray.start array)) ~length:(4 * n)

let () =
  let optimizer = new_optimizer () in
  train optimizer;
  check (save optimizer checkpoint);
  check (destroy optimizer);
  let optimizer = new_optimizer () in
  check (load optimizer checkpoint null);
  train optimizer;
  check (destroy optimizer);
  Printf.printf "%08X\n" (adler32 (bytes weight ^ bytes bias))
