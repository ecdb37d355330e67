// What nearly every test includes besides.
#pragma once
#include "cmake/pch.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>
