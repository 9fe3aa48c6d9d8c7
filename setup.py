"""The repository root is the package `longhand`; its rooms are `kernels`, `engine` and `agent`."""

from setuptools import setup

setup(
    name="longhand",
    version="0.1.0",
    description="A token-level inference engine for QwQ-32B (Qwen2) on one GPU, and the search agent that runs on it.",
    license="MIT",
    python_requires=">=3.10",
    packages=["longhand", "longhand.kernels", "longhand.engine", "longhand.agent", "longhand.agent.demo"],
    package_dir={"longhand": "."},
    package_data={"longhand.agent.demo": ["checkpoint/*", "docs/*.md"]},
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
        "dev": ["pytest", "hypothesis", "transformers", "accelerate", "ruff", "mypy"],
    },
    entry_points={"console_scripts": ["longhand=longhand.agent.cli:main"]},
)
