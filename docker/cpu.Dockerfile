# floe with vLLM's CPU engine. CI lints this file and does not build it. From the top of the checkout:
#   docker build -f docker/cpu.Dockerfile -t floe:cpu .
#   docker run --rm -v floe-home:/home/floe/.floe floe:cpu train --config quickstart
FROM python:3.11-slim-bookworm

SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# DeepSpeed builds two operators, and Torch compiles at run time: the compiler stays.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++=4:12.2.* libnuma1=2.0.* make=4.3-* \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 floe \
    && install --directory --owner floe /opt/floe /home/floe/.floe

USER floe
WORKDIR /opt/floe
COPY --chown=floe . .
# The set-up builds the operators for the user that runs them.
RUN bash cluster/setup.sh .venv
ENV PATH=/opt/floe/.venv/bin:$PATH

WORKDIR /home/floe
ENTRYPOINT ["floe"]
CMD ["--help"]
