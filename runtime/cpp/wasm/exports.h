// Functions of a WebAssembly module.
#pragma once

#define MULTIRES_EXPORT(name) extern "C" __attribute__((export_name(#name)))
