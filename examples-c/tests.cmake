foreach(example minimal param_groups bf16_master embedding region training)
  add_test(NAME example.${example} COMMAND ${example})
endforeach()

if(TARGET openmp)
  add_test(NAME example.openmp COMMAND openmp)
endif()
if(TARGET classes)
  add_test(NAME example.classes COMMAND classes)
endif()

# digits must end with the same weights whatever computes them. The environment variable ADAMW_ISA caps the choice; where the
# processor lacks an instruction set, the best below it is used.
set(outputs "")
foreach(isa portable avx2 avx512)
  foreach(threads 1 2 3)
    set(run digits-${isa}-${threads})
    add_test(NAME example.${run}
      COMMAND sh -c "\"$0\" --threads ${threads} --svg ${run}.svg >${run}.txt; status=$?; cat ${run}.txt; exit $status"
              $<TARGET_FILE:digits>)
    set_tests_properties(example.${run} PROPERTIES
      ENVIRONMENT ADAMW_ISA=${isa}
      FIXTURES_SETUP digits)
    list(APPEND outputs ${run}.txt)
  endforeach()
endforeach()
add_test(NAME example.digits-same-weights
  COMMAND ${CMAKE_COMMAND} -D "OUTPUTS=${outputs}" -P ${CMAKE_CURRENT_SOURCE_DIR}/same_weights.cmake)
set_tests_properties(example.digits-same-weights PROPERTIES FIXTURES_REQUIRED digits)

# Every choice of bytes trains. (`make test-long` compares ten seeds of each.)
foreach(precision f32 nothing master split stochastic kahan)
  add_test(NAME example.digits-${precision}
    COMMAND digits --precision ${precision} --moments 8bit --svg digits-${precision}.svg)
endforeach()
foreach(moments f32 bf16 8bit 4bit)
  add_test(NAME example.chargpt-${moments} COMMAND chargpt --precision split --moments ${moments})
endforeach()

# On the driver that stands in for a device, from this workspace, whose work is done at once or as late as allowed. Where there is no
# driver, which files of its name that are none see to even on a machine that has one, and where there is no device, it says so.
set(standin ${ADAMW_CARGO_TARGET_DIR}/release)
add_test(NAME standin.build
  COMMAND ${CMAKE_COMMAND} -E env CARGO_TARGET_DIR=${ADAMW_CARGO_TARGET_DIR}
          ${ADAMW_CARGO} build --release --locked -p cuda-standin ${ADAMW_CARGO_FLAGS}
  WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
set_tests_properties(standin.build PROPERTIES FIXTURES_SETUP standin)
set(no_driver ${CMAKE_CURRENT_BINARY_DIR}/no-driver)
file(WRITE ${no_driver}/libcuda.so "")
file(WRITE ${no_driver}/libcuda.so.1 "")
function(add_cuda_stream name output)
  add_test(NAME example.cuda_stream-${name}
    COMMAND sh -c "said=$(\"$0\") || exit 1; echo \"$said\"; echo \"$said\" | grep -q -x \"${output}\"" $<TARGET_FILE:cuda_stream>)
  set_tests_properties(example.cuda_stream-${name} PROPERTIES FIXTURES_REQUIRED standin ENVIRONMENT "${ARGN}")
endfunction()
add_cuda_stream(no-driver "SKIP: no CUDA driver is installed" LD_LIBRARY_PATH=${no_driver})
add_cuda_stream(no-device "SKIP: the CUDA driver finds no device" LD_LIBRARY_PATH=${standin} STANDIN_NO_DEVICE=1)
add_cuda_stream(standin "the bits of the processor's steps" LD_LIBRARY_PATH=${standin})
add_cuda_stream(lazy "the bits of the processor's steps" LD_LIBRARY_PATH=${standin} STANDIN_LAZY=1)
if(VALGRIND)
  add_test(NAME valgrind.cuda_stream COMMAND sh ${PROJECT_SOURCE_DIR}/tests/c/valgrind.sh $<TARGET_FILE:cuda_stream>)
  set_tests_properties(valgrind.cuda_stream PROPERTIES
    FIXTURES_REQUIRED standin
    ENVIRONMENT LD_LIBRARY_PATH=${standin}
    LABELS valgrind)
endif()

# A run that is killed three times ends with the bits of one that is not, and its checkpoint can be looked at. (137: killed.)
add_test(NAME example.resume
  COMMAND sh -c "rm -f unbroken.safetensors killed.safetensors
                 \"$0\" unbroken.safetensors >unbroken.txt || exit 1
                 for step in 3 57 129; do \"$0\" killed.safetensors $step; test $? = 137 || exit 1; done
                 \"$0\" killed.safetensors >killed.txt || exit 1
                 cmp unbroken.txt killed.txt && cmp unbroken.safetensors killed.safetensors" $<TARGET_FILE:resume>)
set_tests_properties(example.resume PROPERTIES FIXTURES_SETUP checkpoint)
add_test(NAME example.inspect COMMAND inspect killed.safetensors)
set_tests_properties(example.inspect PROPERTIES
  FIXTURES_REQUIRED checkpoint
  PASS_REGULAR_EXPRESSION "kind=CosineWithWarmup.*state.weights.exp_avg  F32 .1000. at byte .*state.weights.step  U64  200")

# What a program does when it cannot do what is asked: exit status 2 and a word about the reason on stderr.
function(add_refusal_of program name reason)
  list(JOIN ARGN " " arguments)
  add_test(NAME example.${program}-refuses-${name}
    COMMAND sh -c "message=$(\"$0\" ${arguments} 2>&1 >${program}-refusal-${name}.txt); test $? = 2 || exit 1; \
                   echo \"$message\" | grep -F -e '${reason}'" $<TARGET_FILE:${program}>)
endfunction()
function(add_refusal)
  add_refusal_of(digits ${ARGN})
endfunction()
add_refusal_of(inspect missing-file "No such file" no-such-file.safetensors)
add_refusal_of(inspect other-file "it is text" ${CMAKE_CURRENT_SOURCE_DIR}/data/digits.csv)
add_refusal_of(chargpt bad-seed "--seed" --seed x)
add_refusal_of(chargpt dump-of-codes "needs --moments f32" --moments 8bit --dump dump.bin)
add_refusal_of(chargpt full-disk "could not be written: /dev/full" --steps 20 --losses /dev/full)
add_refusal_of(chargpt binary-data "128 kinds" --data $<TARGET_FILE:chargpt>)
add_refusal(unknown-option "unknown option: --nonsense" --nonsense 1)
add_refusal(missing-value "without its value: --threads" --threads)
add_refusal(bad-threads "--threads" --threads many)
add_refusal(bad-isa "--isa" --isa sse9)
add_refusal(bad-epochs "--epochs" --epochs 0)
add_refusal(bad-precision "none of f32" --precision f8)
add_refusal(bad-moments "none of f32, bf16, 8bit or 4bit" --moments 2bit)
add_refusal(missing-data "No such file" --data no-such-file.csv)
add_refusal(bad-data "line 1" --data ${CMAKE_CURRENT_SOURCE_DIR}/data/README.md)

add_test(NAME example.digits-isa-option COMMAND digits --isa portable --svg digits-isa-option.svg)
set_tests_properties(example.digits-isa-option PROPERTIES PASS_REGULAR_EXPRESSION "isa portable.*test accuracy: 9[789]")
