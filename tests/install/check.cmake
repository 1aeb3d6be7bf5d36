# cmake -DWAY= -DSOURCE=<repository> -DBUILD=<its build> -DWORK=<scratch> -DGENERATOR= -DCOMPILER= -P …
# Configures, builds and runs the consumer in this folder. WAY is package (the library is installed) or folder (a
# subdirectory); own_package and own_folder, where the consumer has a hwy::hwy of its own, and the installed headers lie in
# a folder of their own.
function(run)
    execute_process(COMMAND ${ARGV} RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
    if(NOT result EQUAL 0)
        message(FATAL_ERROR "${ARGV} failed:\n${output}")
    endif()
endfunction()

file(REMOVE_RECURSE ${WORK})
set(consumer ${CMAKE_COMMAND} -S ${CMAKE_CURRENT_LIST_DIR} -B ${WORK}/build -G ${GENERATOR}
             -DCMAKE_CXX_COMPILER=${COMPILER})
if(WAY MATCHES "folder")
    list(APPEND consumer -DMULTISTATE_FOLDER=${SOURCE})
else()
    set(includes include)
    if(WAY STREQUAL "own_package")
        set(includes headers/of_multistate)
        set(BUILD ${WORK}/library)
        run(${CMAKE_COMMAND} -S ${SOURCE} -B ${BUILD} -G ${GENERATOR} -DCMAKE_CXX_COMPILER=${COMPILER}
            -DMULTISTATE_BUILD_TESTS=OFF -DMULTISTATE_BUILD_BENCHMARKS=OFF -DMULTISTATE_BUILD_EXAMPLES=OFF
            -DCMAKE_INSTALL_INCLUDEDIR=${includes})
    endif()
    run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${WORK}/prefix)
    file(GLOB_RECURSE headers RELATIVE ${SOURCE}/include ${SOURCE}/include/*.hpp)
    foreach(header IN LISTS headers)
        if(NOT EXISTS ${WORK}/prefix/${includes}/${header})
            message(FATAL_ERROR "${header} was not installed")
        endif()
    endforeach()
    list(APPEND consumer -DCMAKE_PREFIX_PATH=${WORK}/prefix)
endif()
if(WAY MATCHES "^own")
    file(WRITE ${WORK}/highway/hwy/highway.h "#define OWN_HIGHWAY_INCLUDED\n#include_next <hwy/highway.h>\n")
    list(APPEND consumer -DOWN_HIGHWAY=${WORK}/highway)
endif()
run(${consumer})
run(${CMAKE_COMMAND} --build ${WORK}/build)
run(${WORK}/build/consumer)
