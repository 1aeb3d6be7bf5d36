# Compiles the C++ of the documents, syntax and types alone.
#
#     cmake -DPYTHON=... -DSNIPPETS=snippets.py -DOUTPUT=... -DDOCUMENTS=a.md,b.md -DCOMPILE=g++,-std=c++20,... -P check.cmake
string(REPLACE "," ";" documents "${DOCUMENTS}")
string(REPLACE "," ";" compile "${COMPILE}")
execute_process(COMMAND ${PYTHON} ${SNIPPETS} ${OUTPUT} ${documents} COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND ${compile} ${OUTPUT} COMMAND_ERROR_IS_FATAL ANY)
