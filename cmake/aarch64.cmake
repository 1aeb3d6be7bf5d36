# 64-bit ARM from another Debian machine: g++-aarch64-linux-gnu, and qemu-user to run what comes out.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64 -cpu max -L /usr/aarch64-linux-gnu)

# Highway's headers serve all processors, but they lie among headers of this one.
if(NOT EXISTS ${CMAKE_BINARY_DIR}/headers/hwy)
    file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/headers)
    file(CREATE_LINK /usr/include/hwy ${CMAKE_BINARY_DIR}/headers/hwy SYMBOLIC)
endif()
set(HIGHWAY_INCLUDE_DIR ${CMAKE_BINARY_DIR}/headers)
