# The trainer.
#   CPU:  docker build -f docker/trainer.Dockerfile -t edit-r1-trainer .
#   GPU:  docker build -f docker/trainer.Dockerfile --build-arg TORCH_BACKEND= --build-arg COMPILER="gcc libc6-dev" \
#           -t edit-r1-trainer:cuda .   (torch includes CUDA)
ARG BASE=python:3.11-slim
# An image or build context with wheels to use before any index.
ARG WHEELS_IMAGE=scratch

FROM ${WHEELS_IMAGE} AS wheels

# uv is only mounted, and the dependencies are a layer of their own: a change of the source adds a few megabytes.
FROM ${BASE} AS uv
RUN python3 -m venv /opt/uv && /opt/uv/bin/pip install --no-cache-dir --quiet uv==0.13.9

FROM ${BASE} AS dependencies
# The torch build: `cpu` is small and comes from PyTorch's own index; empty uses the default index, with CUDA.
ARG TORCH_BACKEND=cpu
# Others: `trackers` for Weights & Biases and Trackio, `quant` for an int8 base model.
ARG EXTRAS="--extra trainer"
# Compile at build time: the container's user cannot write bytecode.
ENV UV_COMPILE_BYTECODE=1
RUN --mount=type=bind,from=wheels,target=/wheels \
    --mount=type=bind,from=uv,source=/opt/uv,target=/opt/uv \
    --mount=type=bind,source=pyproject.toml,target=/src/pyproject.toml \
    --mount=type=bind,source=constraints.txt,target=/src/constraints.txt \
    /opt/uv/bin/uv venv --python python3 /opt/venv \
    && /opt/uv/bin/uv pip install --python /opt/venv/bin/python --no-cache --find-links /wheels \
       --constraint /src/constraints.txt ${TORCH_BACKEND:+--torch-backend ${TORCH_BACKEND}} \
       --requirements /src/pyproject.toml ${EXTRAS}

FROM uv AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY edit_r1 edit_r1
COPY shared shared
COPY reward_service reward_service
COPY trainer trainer
COPY workbench workbench
COPY worlds worlds
RUN /opt/uv/bin/uv build --wheel --no-cache --out-dir /dist

FROM dependencies AS final
# Debian packages of a C compiler, which torch.compile (model.compile) and Triton call on GPUs.
ARG COMPILER=""
# hadolint ignore=DL3008,SC2086
RUN if [ -n "${COMPILER}" ]; then \
      apt-get update && apt-get install --yes --no-install-recommends ${COMPILER} && rm -rf /var/lib/apt/lists/*; \
    fi
RUN --mount=type=bind,from=uv,source=/opt/uv,target=/opt/uv --mount=type=bind,from=build,source=/dist,target=/dist \
    /opt/uv/bin/uv pip install --python /opt/venv/bin/python --no-cache --no-deps /dist/*.whl
RUN useradd --uid 10001 --create-home app && mkdir -p /models /runs /data && chown app /models /runs /data
ENV PATH=/opt/venv/bin:$PATH HF_HOME=/models PYTHONUNBUFFERED=1 OMP_WAIT_POLICY=passive
# With a read-only root, everything else goes to the volume of the runs: compiled kernels (/tmp may forbid to execute
# them) and what trackers write.
ENV XDG_CACHE_HOME=/runs/.cache TRITON_CACHE_DIR=/runs/.cache/triton TORCHINDUCTOR_CACHE_DIR=/runs/.cache/inductor \
    WANDB_DIR=/runs/.cache/wandb WANDB_DATA_DIR=/runs/.cache/wandb WANDB_CONFIG_DIR=/runs/.cache/wandb \
    TRACKIO_DIR=/runs/.cache/trackio
# Configurations refer to files by their path in the repository.
WORKDIR /app
COPY worlds worlds
COPY examples examples
VOLUME ["/models", "/runs"]
USER 10001
ENTRYPOINT ["edit-r1"]
CMD ["--help"]
