# Finds the virtual environment's site-packages and points CMake at its CUDA compiler, before project() looks for one.
file(GLOB AERIE_SITE_PACKAGES LIST_DIRECTORIES true "${AERIE_VENV}/lib/python3*/site-packages")
list(LENGTH AERIE_SITE_PACKAGES count)
if(NOT count EQUAL 1)
  message(FATAL_ERROR "no site-packages in ${AERIE_VENV}: run scripts/setup.sh first")
endif()
if(AERIE_CUDA AND NOT DEFINED CMAKE_CUDA_COMPILER)
  set(CMAKE_CUDA_COMPILER "${AERIE_SITE_PACKAGES}/nvidia/cu13/bin/nvcc")
endif()
