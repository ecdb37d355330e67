# LibTorch out of the wheel. find_package(Torch) wants a classic CUDA installation, which a wheel is not.
# torch::cpu is all that the program links; the CUDA side is a module that is loaded when a CUDA device is asked for,
# because libtorch_cuda with its libraries costs 0.6 s of start-up.
set(torch "${AERIE_SITE_PACKAGES}/torch")
set(nvidia "${AERIE_SITE_PACKAGES}/nvidia")

add_library(torch_cpu INTERFACE)
add_library(torch::cpu ALIAS torch_cpu)
target_include_directories(torch_cpu SYSTEM INTERFACE "${torch}/include" "${torch}/include/torch/csrc/api/include")
target_compile_definitions(torch_cpu INTERFACE USE_DISTRIBUTED USE_C10D_GLOO)
target_link_directories(torch_cpu INTERFACE "${torch}/lib")
target_link_libraries(torch_cpu INTERFACE -ltorch_cpu -lc10)
target_link_options(torch_cpu INTERFACE "-Wl,-rpath,${torch}/lib" "-Wl,--allow-shlib-undefined")

add_library(torch_cuda INTERFACE)
add_library(torch::cuda ALIAS torch_cuda)
target_include_directories(torch_cuda SYSTEM INTERFACE "${nvidia}/cu13/include" "${nvidia}/nccl/include")
target_compile_definitions(torch_cuda INTERFACE USE_C10D_NCCL)
target_link_directories(torch_cuda INTERFACE "${nvidia}/cu13/lib")
target_link_libraries(torch_cuda INTERFACE torch::cpu -Wl,--no-as-needed -ltorch_cuda -lc10_cuda -Wl,--as-needed -lcudart)
target_link_options(torch_cuda INTERFACE "-Wl,-rpath,${nvidia}/cu13/lib")
