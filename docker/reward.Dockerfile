# The reward service.
#   CPU:  docker build -f docker/reward.Dockerfile -t edit-r1-reward .
#   GPU:  docker build -f docker/reward.Dockerfile --build-arg VARIANT=cuda -t edit-r1-reward:cuda .   (based on vLLM's image)
ARG VARIANT=cpu
ARG CPU_BASE=python:3.11-slim
ARG CUDA_BASE=vllm/vllm-openai:v0.32.0
# An image or build context with wheels to use before any index.
ARG WHEELS_IMAGE=scratch

FROM ${WHEELS_IMAGE} AS wheels

# uv is only mounted, and the dependencies are a layer of their own: a change of the source adds a few megabytes.
FROM ${CPU_BASE} AS uv
RUN python3 -m venv /opt/uv && /opt/uv/bin/pip install --no-cache-dir --quiet uv==0.13.9

FROM ${CPU_BASE} AS dependencies
# The torch build: `cpu` is small and comes from PyTorch's own index; empty uses the default index.
ARG TORCH_BACKEND=cpu
# Compile at build time: the container's user cannot write bytecode.
ENV UV_COMPILE_BYTECODE=1
RUN --mount=type=bind,from=wheels,target=/wheels \
    --mount=type=bind,from=uv,source=/opt/uv,target=/opt/uv \
    --mount=type=bind,source=pyproject.toml,target=/src/pyproject.toml \
    --mount=type=bind,source=constraints.txt,target=/src/constraints.txt \
    /opt/uv/bin/uv venv --python python3 /opt/venv \
    && /opt/uv/bin/uv pip install --python /opt/venv/bin/python --no-cache --find-links /wheels \
       --constraint /src/constraints.txt ${TORCH_BACKEND:+--torch-backend ${TORCH_BACKEND}} \
       --requirements /src/pyproject.toml --extra service

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

FROM dependencies AS runtime-cpu
RUN --mount=type=bind,from=uv,source=/opt/uv,target=/opt/uv --mount=type=bind,from=build,source=/dist,target=/dist \
    /opt/uv/bin/uv pip install --python /opt/venv/bin/python --no-cache --no-deps /dist/*.whl
ENV PATH=/opt/venv/bin:$PATH OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive

FROM ${CUDA_BASE} AS runtime-cuda
# vLLM, torch, transformers and FastAPI are already installed and stay pinned; only a few small packages are added.
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY edit_r1 edit_r1
COPY shared shared
COPY reward_service reward_service
COPY trainer trainer
COPY workbench workbench
COPY worlds worlds
# hadolint ignore=DL3013
RUN python3 -m pip list --format=freeze > /tmp/pins.txt \
    && python3 -m pip install --no-cache-dir --constraint /tmp/pins.txt '.[service]'

# hadolint ignore=DL3006
FROM runtime-${VARIANT} AS final
RUN useradd --uid 10001 --create-home app && mkdir -p /models && chown app /models
# Weights from the Hugging Face Hub and compiled kernels are stored on a volume, and survive the container.
ENV HF_HOME=/models XDG_CACHE_HOME=/models/.cache VLLM_CACHE_ROOT=/models/.cache/vllm \
    TRITON_CACHE_DIR=/models/.cache/triton TORCHINDUCTOR_CACHE_DIR=/models/.cache/inductor
ENV REWARD_HOST=0.0.0.0 REWARD_LOG_FORMAT=json PYTHONUNBUFFERED=1
VOLUME /models
WORKDIR /home/app
USER 10001
EXPOSE 8000
HEALTHCHECK --interval=3s --timeout=5s --start-period=60m --start-interval=1s --retries=3 \
    CMD ["python3", "-c", "import urllib.request as u; u.build_opener(u.ProxyHandler({})).open('http://127.0.0.1:8000/readyz', timeout=4)"]
ENTRYPOINT ["python3", "-m", "edit_r1", "serve"]
