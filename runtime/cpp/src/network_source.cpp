#include "network_source.h"

#include <cstdio>

#include "state.h"

namespace multires {
namespace {

constexpr size_t kPointer = 4;  // bytes, on microcontrollers

template <typename Integer>
std::string text(Integer number) {
  return std::to_string(number);
}

// A float in hexadecimal, which is exact.
template <>
std::string text(float number) {
  char digits[32];
  std::snprintf(digits, sizeof digits, "%af", static_cast<double>(number));
  return digits;
}

std::string braces(std::initializer_list<std::string> values) {
  std::string joined;
  for (const std::string& value : values) joined += (joined.empty() ? "" : ", ") + value;
  return "{" + joined + "}";
}

template <typename Enum>
std::string of_enum(const char* name, Enum value) {
  return "static_cast<" + std::string(name) + ">(" + text(static_cast<int64_t>(value)) + ")";
}

// Collects arrays, and gives the views of them.
class Arrays {
 public:
  std::string view(View<const float> values) { return numbers("float", values); }
  std::string view(View<const int> values) { return numbers("int", values); }
  std::string view(View<const int64_t> values) { return numbers("int64_t", values); }
  std::string view(View<const unsigned char> values) { return numbers("unsigned char", values); }
  std::string view(View<const Pooling> values) {
    return list("Pooling", values, [](Pooling value) { return of_enum("Pooling", value); });
  }
  std::string view(View<const Layer> values) {
    return list("Layer", values, [this](const Layer& layer) { return of(layer); });
  }
  std::string of(const Panels& panels) {
    return braces({of_enum("multires_dtype", panels.dtype), text(panels.inputs), text(panels.count), text(panels.last),
                   text(panels.group), view(panels.weights), view(panels.bias), view(panels.reciprocal_scales),
                   view(panels.scales), "{}"});  // microcontrollers take no unsigned inputs: no offsets
  }

  const std::string& definitions() const { return definitions_; }
  size_t bytes() const { return bytes_; }

 private:
  template <typename Values>
  std::string numbers(const char* type, const Values& values) {
    return list(type, values, [](auto value) { return text(value); });
  }
  std::string of(const Layer& layer) {
    return braces({view(layer.filters), of(layer.mixing), of(layer.output), of_enum("Norm", layer.norm),
                   of_enum("Place", layer.place), text(layer.groups), text(layer.epsilon), view(layer.scale),
                   view(layer.shift)});
  }

  template <typename Values, typename Text>
  std::string list(const std::string& type, const Values& values, Text text_of) {
    if (values.empty()) return "{}";
    std::string lines, line;
    for (const auto& value : values) {
      line += text_of(value) + ",";
      if (line.size() < 100) continue;
      lines += "    " + line + "\n";
      line.clear();
    }
    if (!line.empty()) lines += "    " + line + "\n";
    const std::string name = "kArray" + std::to_string(count_++);
    definitions_ += "alignas(16) constexpr " + type + " " + name + "[] = {\n" + lines + "};\n";
    bytes_ += values.size() * sizeof_on_device(type);
    return braces({name, std::to_string(values.size())});
  }

  static size_t sizeof_on_device(const std::string& type) {
    return type == "unsigned char" ? 1 : type == "int64_t" ? 8 : type == "Layer" ? 0 : 4;
  }

  std::string definitions_;
  size_t bytes_ = 0;
  int count_ = 0;
};

std::string of(const multires_info& info) {
  return braces({text(info.d_input), text(info.n_tokens), text(info.d_output), text(info.d_model), text(info.n_layers),
                 text(info.kernel_size), text(info.depth), text(info.autoregressive), text(info.takes_window),
                 text(info.window)});
}

std::string kinds_of(const Network& network) {
  unsigned weights = 0;
  network.for_each_matrix([&](const Panels& panels) { weights |= panels.count ? 1u << panels.dtype : 0; });
  const int kernel_size = network.info.kernel_size;
  const bool unrolled = (kernel_size == 2 || kernel_size == 4);
  return "// Written by multires-edge; see kinds.h.\nconstexpr Kinds kKinds" +
         braces({"false", std::to_string(1u << network.queues), std::to_string(weights),
                 text(unrolled ? kernel_size : 0), text(network.info.d_model)}) +
         ";\n";
}

}  // namespace

NetworkSource network_source(const Model& model) {
  Arrays arrays;
  const std::string network =
      braces({of(model.info), of_enum("multires_dtype", model.queues), of_enum("Activation", model.activation),
              text(model.gated), text(model.untied), text(model.width), arrays.view(model.table),
              arrays.of(model.encoder), text(model.encoder_taps), arrays.view(model.layers),
              arrays.view(model.poolings), arrays.of(model.head), of_enum("OutputActivation", model.output_activation),
              arrays.view(model.taps), arrays.view(model.slots), text(model.total_taps), "&kBaselineKernels"});
  Counter counter(kPointer);
  const State counted(model, 1, model.info.window, 1, counter);
  NetworkSource result;
  result.constant_bytes = arrays.bytes();
  result.arena_bytes = static_cast<size_t>(counter.bytes());
  result.kinds = kinds_of(model);
  result.source =
      "// Written by multires-edge: a network with its weights, and the memory of a stream.\n"
      "#include \"kernels.h\"\n"
      "#include \"one_network.h\"\n\n"
      "namespace multires {\nnamespace {\n\n" +
      arrays.definitions() +
      "\n}  // namespace\n\n"
      "constexpr Network kNetwork = " +
      network +
      ";\n"
      "const size_t kArenaBytes = " +
      std::to_string(result.arena_bytes) +
      ";\n"
      "alignas(kPiece) unsigned char g_arena[" +
      std::to_string(result.arena_bytes) + "];\n\n}  // namespace multires\n";
  return result;
}

}  // namespace multires
