"""What no formula gives, in bytes, each with its source. No figure of a GPU was measured by floe itself."""

GIB = 2**30
MIB = 2**20

# On a GPU.
# vLLM's own report of one engine on one GPU, "non_torch_memory takes 0.39GiB" (vllm-project/vllm issue 11251), rounded
# up. Every process that uses the GPU has a context of its own.
CUDA_CONTEXT = GIB // 2
# "Estimated CUDA graph memory: 0.36 GiB total" (gpustack/runner pull request 251, vLLM 0.27), rounded up; vLLM counts
# it into its share of the GPU since 0.21.
CUDA_GRAPHS = GIB // 2
# Context and graphs stay at sleep level 1; "1.14Gb used on each GPU after sleep" (vllm-project/vllm issue 32714).
ENGINE_ASLEEP = 5 * GIB // 4
# PyTorch's allocator can't use every gap between what it holds: of the working memory. An assumption.
ALLOCATOR_SLACK_SHARE = 0.05

# On a CPU, of the process with its libraries and before the model: estimates that `floe bench memory` agrees with.
ENGINE_PROCESS = 1000 * MIB
LEARNER_PROCESS = 900 * MIB
# Driver, Ray's own processes and reward workers of a local run.
REST_OF_RUN = 2 * GIB
# glibc keeps what it can't give back between two pieces of work: of the working memory.
HEAP_SLACK_SHARE = 0.05
