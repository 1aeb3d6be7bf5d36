# How this project compiles its own tests, benchmarks and examples; consumers of the headers see none of it.
find_package(Threads REQUIRED)
find_package(Eigen3 REQUIRED NO_MODULE)

if(PROJECT_IS_TOP_LEVEL AND NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
    set(CMAKE_BUILD_TYPE Release CACHE STRING "Release, Debug, RelWithDebInfo" FORCE)
endif()

# Warnings, and this machine's instructions.
function(own_target name)
    target_link_libraries(${name} PRIVATE multistate::multistate)
    target_compile_options(${name} PRIVATE -Wall -Wextra -Wpedantic -Wconversion -Wshadow)
    if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
        # GCC bug 105593: its own AVX-512 header initializes variables with themselves.
        target_compile_options(${name} PRIVATE -Wno-uninitialized -Wno-maybe-uninitialized)
    endif()
    if(MULTISTATE_WARNINGS_AS_ERRORS)
        target_compile_options(${name} PRIVATE -Werror)
    endif()
    if(MULTISTATE_NATIVE)
        target_compile_options(${name} PRIVATE -march=native)
    endif()
    set_target_properties(${name} PROPERTIES CXX_EXTENSIONS OFF)
endfunction()
