// As examples/c/train.c, with JNA. usage: java -cp jna.jar Train.java <libadamw.so> <checkpoint>
import com.sun.jna.Callback;
import com.sun.jna.Library;
import com.sun.jna.Memory;
import com.sun.jna.Native;
import com.sun.jna.Pointer;
import com.sun.jna.ptr.IntByReference;
import com.sun.jna.ptr.PointerByReference;
import java.util.zip.Adler32;

public class Train {
  static final int N = 64, NUM_STEPS = 50, F32 = 1;

  public interface DecayFilter extends Callback {
    int decays(String name, Pointer userData);
  }

  public interface Adamw extends Library {
    String adamw_last_error();
    int adamw_create(Pointer config, PointerByReference outOptimizer);
    int adamw_destroy(Pointer optimizer);
    int adamw_set_lr(Pointer optimizer, double lr);
    int adamw_set_decay_filter(Pointer optimizer, DecayFilter filter, Pointer userData);
    int adamw_add_array(Pointer optimizer, String name, Pointer data, long n, int dtype, IntByReference outParam);
    int adamw_set_grad_array(Pointer optimizer, int param, Pointer data, long n, int dtype);
    int adamw_step(Pointer optimizer);
    int adamw_save(Pointer optimizer, String path);
    int adamw_load(Pointer optimizer, String path, Pointer options);
  }

  static Adamw adamw;

  // The library keeps addresses, so the memory is C's, and is kept: the garbage collector moves and frees its own.
  static final Memory weight = array(), bias = array(), weightGrad = array(), biasGrad = array();
  static final DecayFilter decays = (name, userData) -> name.equals("bias") ? 0 : 1;

  static Memory array() {
    Memory data = new Memory(4 * N);
    data.clear();
    return data;
  }

  static void check(int status) {
    if (status != 0) throw new IllegalStateException(adamw.adamw_last_error());
  }

  static void add(Pointer optimizer, String name, Memory param, Memory grad) {
    IntByReference number = new IntByReference();
    check(adamw.adamw_add_array(optimizer, name, param, N, F32, number));
    check(adamw.adamw_set_grad_array(optimizer, number.getValue(), grad, N, F32));
  }

  static Pointer newOptimizer() {
    PointerByReference out = new PointerByReference();
    check(adamw.adamw_create(null, out));
    Pointer optimizer = out.getValue();
    check(adamw.adamw_set_lr(optimizer, 0.05));
    check(adamw.adamw_set_decay_filter(optimizer, decays, null));
    add(optimizer, "weight", weight, weightGrad);
    add(optimizer, "bias", bias, biasGrad);
    return optimizer;
  }

  static void train(Pointer optimizer) {
    for (int step = 0; step < NUM_STEPS; step++) {
      for (int i = 0; i < N; i++) {
        weightGrad.setFloat(4 * i, weight.getFloat(4 * i) - i / 16f);
        biasGrad.setFloat(4 * i, bias.getFloat(4 * i) + i / 16f);
      }
      check(adamw.adamw_step(optimizer));
    }
  }

  public static void main(String[] arguments) {
    adamw = Native.load(arguments[0], Adamw.class);
    Pointer optimizer = newOptimizer();
    train(optimizer);
    check(adamw.adamw_save(optimizer, arguments[1]));
    check(adamw.adamw_destroy(optimizer));

    optimizer = newOptimizer();
    check(adamw.adamw_load(optimizer, arguments[1], null));
    train(optimizer);
    check(adamw.adamw_destroy(optimizer));

    Adler32 checksum = new Adler32();
    checksum.update(weight.getByteArray(0, 4 * N));
    checksum.update(bias.getByteArray(0, 4 * N));
    System.out.printf("%08X%n", checksum.getValue());
  }
}
