# Runs the smallest benchmark of each kind into a copy of the README: every family must have its table there.
#
#     cmake -DPROGRAM=multistate_bench -DREADME=README.md -DWORK=folder -P check_report.cmake
set(report ${WORK}/checked_report.md)
configure_file(${README} ${report} COPYONLY)
string(JOIN "|" smallest "memory/memcpy" "step/(tova|h2o)/int8/32x8/512" "step_and_rivals/f16/32x8/512"
       "policy/h2o/512/0" "head_dim/int8/.*/64" "group/int8/.*/32" "batch/tova/f16/32x8/256"
       "threads/step/f16/32x1/" "(softmax|least|top_k)/64" "prefill/tova/f16/8x8/")
execute_process(COMMAND ${PROGRAM} --benchmark_min_time=0.001 "--benchmark_filter=^(${smallest})" --report=${report}
                RESULT_VARIABLE failed)
if(failed)
    message(FATAL_ERROR "multistate_bench: ${failed}")
endif()
file(READ ${report} text)
foreach(title IN ITEMS "Memory" "A step over attention alone" "What each policy costs" "A step beside its rivals"
                       "Other head dimensions" "Query heads per KV head" "As many sequences as fit" "Softmax"
                       "The state to forget" "The states to keep" "Prefill")
    string(FIND "${text}" "\n### ${title}" at)
    if(at EQUAL -1)
        message(FATAL_ERROR "${report} has no table '${title}'")
    endif()
endforeach()
