# floe with vLLM's CUDA engine. CI lints this file and does not build it. From the top of the checkout:
#   docker build -f docker/cuda.Dockerfile -t floe:cuda .
#   docker run --rm --gpus all --shm-size 8g -v floe-home:/home/floe/.floe floe:cuda doctor --config qwen25_coder_3b_24gb
FROM nvidia/cuda:13.0.1-devel-ubuntu24.04

SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# DeepSpeed builds two operators, and Torch and vLLM compile at run time: compiler and nvcc stay. Ubuntu's first user is
# removed, so that floe has the number 1000, which owns files on most machines.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends \
        g++=4:13.2.* libnuma1=2.0.* make=4.3-* python3=3.12.* python3-dev=3.12.* python3-venv=3.12.* \
    && rm -rf /var/lib/apt/lists/* \
    && userdel --remove ubuntu \
    && useradd --create-home --uid 1000 floe \
    && install --directory --owner floe /opt/floe /home/floe/.floe

USER floe
WORKDIR /opt/floe
COPY --chown=floe . .
# A build sees no GPU, by which the set-up otherwise chooses.
RUN FLOE_ENGINE=cuda bash cluster/setup.sh .venv
ENV PATH=/opt/floe/.venv/bin:$PATH

WORKDIR /home/floe
ENTRYPOINT ["floe"]
CMD ["--help"]
