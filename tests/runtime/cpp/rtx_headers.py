"""Headers that have what the package uses of TensorRT-RTX, made of those of TensorRT."""

from __future__ import annotations

from pathlib import Path

# What TensorRT-RTX 1.7 has beyond TensorRT 10.14, by NVIDIA's samples and Python bindings: texts that replace
# others.
_RTX = {
    "NvInferVersion.h": [
        ("ENTERPRISE", "RTX"), ("MAJOR_RTX 10", "MAJOR_RTX 1"), ("MINOR_RTX 14", "MINOR_RTX 7"),
    ],
    "NvInferImpl.h": [
        ("class IRuntimeConfig;", """class IRuntimeConfig;
class IRuntimeCache;
enum class DynamicShapesKernelSpecializationStrategy : int32_t;"""),
        ("ICudaEngine* getPImpl() noexcept = 0;", """ICudaEngine* getPImpl() noexcept = 0;
    virtual char const* getAliasedInputTensor(char const* output) const noexcept = 0;"""),
        ("class VRuntimeConfig : public VRoot", """class VRuntimeCache : public VRoot
{
public:
    virtual IHostMemory* serialize() const noexcept = 0;
    virtual bool deserialize(void const* blob, std::size_t size) noexcept = 0;
};

class VRuntimeConfig : public VRoot"""),
        ("IRuntimeConfig* getPImpl() noexcept = 0;", """IRuntimeConfig* getPImpl() noexcept = 0;
    virtual IRuntimeCache* createRuntimeCache() const noexcept = 0;
    virtual bool setRuntimeCache(IRuntimeCache const& cache) noexcept = 0;
    virtual void setDynamicShapesKernelSpecializationStrategy(
        DynamicShapesKernelSpecializationStrategy strategy) noexcept = 0;"""),
    ],
    "NvInferRuntime.h": [
        ("class IRuntimeConfig : public INoCopy\n{\npublic:", """
enum class DynamicShapesKernelSpecializationStrategy : int32_t
{
    kLAZY = 0,
    kEAGER = 1,
    kNONE = 2,
};

class IRuntimeCache : public INoCopy
{
public:
    virtual ~IRuntimeCache() noexcept = default;
    IHostMemory* serialize() const noexcept { return mImpl->serialize(); }
    bool deserialize(void const* blob, std::size_t size) noexcept { return mImpl->deserialize(blob, size); }

protected:
    apiv::VRuntimeCache* mImpl;
};

class IRuntimeConfig : public INoCopy
{
public:
    IRuntimeCache* createRuntimeCache() const noexcept { return mImpl->createRuntimeCache(); }
    bool setRuntimeCache(IRuntimeCache const& cache) noexcept { return mImpl->setRuntimeCache(cache); }
    void setDynamicShapesKernelSpecializationStrategy(
        DynamicShapesKernelSpecializationStrategy strategy) noexcept
    {
        mImpl->setDynamicShapesKernelSpecializationStrategy(strategy);
    }
"""),
        ("class ICudaEngine : public INoCopy\n{\npublic:", """class ICudaEngine : public INoCopy
{
public:
    char const* getAliasedInputTensor(char const* output) const noexcept
    {
        return mImpl->getAliasedInputTensor(output);
    }
"""),
    ],
}  # fmt: skip


def write_rtx_headers(headers: Path, folder: Path) -> Path:
    """Write the headers into a new folder, and return it."""
    folder.mkdir()
    for path in headers.glob("*.h"):
        text = path.read_text()
        for before, after in _RTX.get(path.name, []):
            assert before in text, (path.name, before)
            text = text.replace(before, after)
        (folder / path.name).write_text(text)
    return folder
