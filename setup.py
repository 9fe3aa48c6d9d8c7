"""The repository root is the package `longhand`; its rooms are `kernels`, `engine` and `agent`."""

import sys

from setuptools import Extension, setup

# The CPU kernels: a plain shared library that is loaded with ctypes. Optional: without a compiler the install succeeds
# and Longhand says that it runs slower.
FLAGS = ["-std=c++17", "-O3", "-ffp-contract=off", "-fno-exceptions", "-g0", "-w"]
SOURCES = ("interface", "team", "portable", "avx2", "avx512", "bf16")
native = Extension(
    "longhand.kernels._native",
    sources=[f"kernels/native/{name}.cpp" for name in SOURCES],
    depends=[
        f"kernels/native/{name}.h"
        for name in ("longhand", "team", "level", "level_table", "lanes", "linear", "attention", "block")
    ],
    extra_compile_args=FLAGS,
    extra_link_args=["-pthread"],
    language="c++",
    optional=True,
)

setup(
    name="longhand",
    version="0.1.0",
    description="A token-level inference engine for QwQ-32B (Qwen2) on one GPU, and the search agent that runs on it.",
    license="MIT",
    python_requires=">=3.10",
    packages=["longhand", "longhand.kernels", "longhand.engine", "longhand.agent", "longhand.agent.demo"],
    package_dir={"longhand": "."},
    ext_modules=[native] if sys.platform.startswith("linux") else [],
    package_data={
        "longhand.agent": ["meaning.safetensors"],
        "longhand.agent.demo": ["checkpoint/*", "docs/*.md", "prose/*.txt"],
    },
    install_requires=[
        "torch>=2.4,<2.14",
        "numpy",
        "safetensors",
        "tokenizers",
        "bitsandbytes",
        "huggingface_hub",
        "tavily-python",
        "rich",
        "typer",
    ],
    extras_require={
        "bench": ["llama-cpp-python", "gguf", "transformers", "accelerate", "matplotlib"],
        "dev": [
            "pytest",
            "pytest-xdist",
            "hypothesis",
            "transformers",
            "accelerate",
            "ruff",
            "mypy",
            "matplotlib",
            "triton==3.7.1",
        ],
    },
    entry_points={"console_scripts": ["longhand=longhand.agent.cli:main"]},
)
