"""The operations between Node and Python, as types. Generated from activities/runtime/operations.ts by
`npm run docs:operations`: change that table and not this file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NotRequired, TypedDict

from serve import Call, Operation


class GgufModel(TypedDict):
    kind: Literal["gguf"]
    """A GGUF file inside an installed Python package."""
    package: str
    """Import name of the Python package."""
    file: str
    """File inside the package."""


class GgufFileModel(TypedDict):
    kind: Literal["ggufFile"]
    """A GGUF file on the GPU worker, in one part or several."""
    paths: list[str]
    """Paths on the GPU worker: the file, or its parts in order, of `gguf-split` or pieces of one file."""


class HubModel(TypedDict):
    kind: Literal["hub"]
    """A model of the Hugging Face hub."""
    id: str
    """Id, such as Qwen/Qwen2.5-Coder-0.5B-Instruct."""
    revision: str
    """Branch, tag or commit; a commit is the only one that never moves."""


class FolderModel(TypedDict):
    kind: Literal["folder"]
    """A Hugging Face folder with config.json, *.safetensors and a tokenizer with chat template."""
    path: str
    """Path on the GPU worker: absolute, or relative to its working folder or the package."""


class CheckModelParams(TypedDict):
    source: ImportedModelSource


class CheckModelResult(TypedDict):
    architecture: str | None


class ImportModelParams(TypedDict):
    source: ImportedModelSource
    output: str


class ImportModelResult(TypedDict):
    architecture: str
    parameters: int


class BuildMicroModelParams(TypedDict):
    corpus: str
    output: str
    seed: int
    steps: int
    batch: NotRequired[int]
    """Answers of one step."""
    learningRate: NotRequired[float]
    initializerRange: NotRequired[float]
    """Deviation of the first weights."""
    phrases: NotRequired[bool]
    """A token is the text between two numbers of a line."""


class BuildMicroModelProgress(TypedDict, total=False):
    loss: float


class BuildMicroModelResult(TypedDict):
    architecture: str
    parameters: int
    vocabulary: int
    steps: int
    loss: float
    """Mean of the last ten steps, in nats per token."""


class ReleaseModelsParams(TypedDict):
    pass


class ReleaseModelsResult(TypedDict):
    pass


class SampleParams(TypedDict):
    model: str
    adapter: NotRequired[str]
    """Folder of adapters on top of the model; the engine transformers alone."""
    requests: str
    output: str
    maxRows: int
    """Rows at once."""
    logProbs: NotRequired[bool]
    """Rows carry the log-probability of each completion token."""


class SampleProgress(TypedDict, total=False):
    tokens: int
    """Tokens sampled until now."""


class SampleResult(TypedDict):
    rows: int
    tokens: int


class ConversationForm(TypedDict):
    request: str
    opening: str


class ScoreParams(TypedDict):
    model: str
    rows: str
    forms: dict[str, ConversationForm]
    """What stands around question and program, by language; the first is the default."""
    output: str
    microBatch: int


class ScoreResult(TypedDict):
    rows: int
    tooLong: int
    """Conversations longer than the context, which have no row."""
    scoreMean: float | None
    scoreStd: float | None
    """Population standard deviation."""


class LowRankAdapters(TypedDict):
    rank: int
    alpha: float


class TrainRewardModelConfig(TypedDict):
    learningRate: float
    epochs: float
    batchSize: int
    """Rows of one optimizer step."""
    upperLayers: int | None
    """Train only the upper n decoder blocks and the head; null: all."""
    seed: int
    microBatch: int
    """Rows of one backward pass."""
    microBatchTokens: NotRequired[int]
    """Tokens of one backward pass at most, padding included; instead of microBatch."""
    gradientCheckpointing: NotRequired[bool]
    """Blocks are computed again in the backward pass."""
    checkpointSeconds: float
    sharding: NotRequired[Literal["none", "fsdp", "fsdpStep"]]
    maxLength: int
    """Longer rows are left out and counted, in tokens."""
    warmupRatio: float
    """Share of the steps in which the learning rate rises."""
    schedule: Literal["cosine", "constant"]
    """Learning rate after the warm-up."""
    lora: NotRequired[LowRankAdapters | None]
    questionWeighting: NotRequired[bool]
    centerRewardsCoefficient: float | None
    bf16: NotRequired[bool | None]
    baseline: NotRequired[bool]
    """Judge the start model too."""


class TrainRewardModelParams(TypedDict):
    output: str
    """Model folder to write."""
    checkpoints: str
    """Folder of the checkpoints that are written."""
    resumeFrom: NotRequired[str]
    """A checkpoint folder of the same training."""
    model: str
    train: str
    heldOut: str
    forms: dict[str, ConversationForm]
    """What stands around question and program, by language; the first is the default."""
    config: TrainRewardModelConfig


class TrainRewardModelProgress(TypedDict, total=False):
    loss: float
    accuracy: float


class TrainingEnvironment(TypedDict):
    step: int
    """The first step in this environment is the next one."""
    torch: str
    device: str
    cpuCapability: str
    threads: int
    processes: int
    """Of all hosts."""
    hosts: NotRequired[int]
    """Absent: one."""
    microBatch: int
    microBatchTokens: NotRequired[int]
    sharding: str


class RewardModelStep(TypedDict):
    step: int
    loss: float
    accuracy: float


class HeldOutResult(TypedDict):
    pairs: int
    questions: int
    accuracy: float | None
    """Share of pairs with the chosen program above the rejected one."""
    meanMargin: float | None
    scoreMean: float | None
    scoreStd: float | None
    """Population standard deviation."""
    rows: list[ScoredPair]


class ScoredPair(TypedDict):
    id: str
    chosenScore: float
    rejectedScore: float


class HeldOutFigures(TypedDict):
    pairs: int
    questions: int
    accuracy: float | None
    """Share of pairs with the chosen program above the rejected one."""
    meanMargin: float | None
    scoreMean: float | None
    scoreStd: float | None
    """Population standard deviation."""


class TrainRewardModelResult(TypedDict):
    steps: int
    processes: int
    environments: list[TrainingEnvironment]
    pairs: int
    tooLong: int
    heldOutTooLong: int
    curve: list[RewardModelStep]
    heldOut: HeldOutResult
    before: NotRequired[HeldOutFigures]


class WarmUp(TypedDict):
    ratio: float
    round: int
    rounds: int


class PolicyAdapters(TypedDict):
    rank: int
    alpha: float
    targetModules: NotRequired[list[str] | None]
    base: str
    """What tells the model below."""


class UpdatePolicyConfig(TypedDict):
    learningRate: float
    epochs: int
    batchSize: int
    """Rows of one optimizer step."""
    upperLayers: int | None
    """Train only the upper n decoder blocks and the head; null: all."""
    seed: int
    microBatch: int
    """Rows of one backward pass."""
    microBatchTokens: NotRequired[int]
    """Tokens of one backward pass at most, padding included; instead of microBatch."""
    gradientCheckpointing: NotRequired[bool]
    """Blocks are computed again in the backward pass."""
    checkpointSeconds: float
    sharding: NotRequired[Literal["none", "fsdp", "fsdpStep"]]
    name: MethodName
    beta: float
    clip: float
    clipHigh: NotRequired[float]
    rewardClip: float
    maxGradNorm: float
    endWeight: float
    """Of the loss of ends that the policy did not sample."""
    maxNewTokens: int
    """Of the sampling."""
    temperature: float
    """Of the sampling."""
    lora: NotRequired[PolicyAdapters]
    """Adapters are trained and written, and no whole model."""


class UpdatePolicyParams(TypedDict):
    output: str
    """Model folder to write."""
    checkpoints: str
    """Folder of the checkpoints that are written."""
    resumeFrom: NotRequired[str]
    """A checkpoint folder of the same training."""
    policy: str
    adapter: NotRequired[str]
    """Folder of the adapters that the policy has, and the reference has not."""
    reference: str
    rollouts: str
    state: str
    """Folder for the optimizer's state."""
    resumeState: NotRequired[str]
    """State folder of the round before."""
    importanceCap: NotRequired[float]
    """Rollouts are of another sampler, and weigh at most this."""
    warmUp: NotRequired[WarmUp]
    """Of the learning rate, over that share of the rounds."""
    config: UpdatePolicyConfig


class UpdatePolicyProgress(TypedDict, total=False):
    loss: float
    clipFraction: float
    gradNorm: float


class PolicyStep(TypedDict):
    step: int
    loss: float
    clipFraction: float
    gradNorm: float


class UpdatePolicyMetrics(TypedDict):
    loss: float
    clipFraction: float
    gradNorm: float
    rewardMean: float
    rewardStd: float
    kl: float
    entropy: float
    advantageStd: float
    nonZeroAdvantages: int
    importanceMean: NotRequired[float]
    importanceCapped: NotRequired[float]
    endProbability: NotRequired[float]


class UpdatePolicyResult(TypedDict):
    steps: int
    processes: int
    environments: list[TrainingEnvironment]
    trainedIds: list[str]
    """The rollout of every use, in order."""
    metrics: UpdatePolicyMetrics
    curve: list[PolicyStep]


class MergeAdaptersParams(TypedDict):
    model: str
    adapter: str
    output: str


class MergeAdaptersResult(TypedDict):
    architecture: str
    parameters: int


class FineTuneConfig(TypedDict):
    learningRate: float
    epochs: int
    batchSize: int
    """Rows of one optimizer step."""
    upperLayers: int | None
    """Train only the upper n decoder blocks and the head; null: all."""
    seed: int
    microBatch: int
    """Rows of one backward pass."""
    microBatchTokens: NotRequired[int]
    """Tokens of one backward pass at most, padding included; instead of microBatch."""
    gradientCheckpointing: NotRequired[bool]
    """Blocks are computed again in the backward pass."""
    checkpointSeconds: float
    sharding: NotRequired[Literal["none", "fsdp", "fsdpStep"]]
    maxLength: int
    """Longer rows are left out and counted, in tokens."""
    warmupRatio: float
    """Share of the steps in which the learning rate rises."""
    schedule: Literal["cosine", "constant"]
    """Learning rate after the warm-up."""


class FineTuneParams(TypedDict):
    output: str
    """Model folder to write."""
    checkpoints: str
    """Folder of the checkpoints that are written."""
    resumeFrom: NotRequired[str]
    """A checkpoint folder of the same training."""
    model: str
    rows: str
    config: FineTuneConfig


class FineTuneProgress(TypedDict, total=False):
    loss: float
    gradNorm: float


class FineTuningStep(TypedDict):
    step: int
    loss: float


class FineTuneResult(TypedDict):
    steps: int
    processes: int
    environments: list[TrainingEnvironment]
    rows: int
    """Rows that were trained on."""
    tooLong: int
    """Rows longer than maxLength, left out."""
    tokens: int
    """Completion tokens of one epoch."""
    curve: list[FineTuningStep]


class CheckTableParams(TypedDict):
    kind: ArtifactKind
    format: TableFormat
    path: NotRequired[str]
    dataset: NotRequired[str]
    revision: NotRequired[str]
    files: NotRequired[list[str]]
    configuration: NotRequired[str]
    split: NotRequired[str]
    package: NotRequired[str]
    heldOutShare: float


class CheckTableResult(TypedDict):
    pass


class ImportTableParams(TypedDict):
    kind: ArtifactKind
    format: TableFormat
    path: NotRequired[str]
    dataset: NotRequired[str]
    revision: NotRequired[str]
    files: NotRequired[list[str]]
    configuration: NotRequired[str]
    split: NotRequired[str]
    package: NotRequired[str]
    heldOutShare: float
    output: str


class ImportTableResult(TypedDict):
    rows: int
    dropped: dict[str, int]
    """Rows that were left out, by reason."""
    source: str


class ExportTableParams(TypedDict):
    format: Literal["aceCode87K", "aceCodePair300K"]
    rows: str
    programs: str | None
    model: str | None
    output: str


class ExportTableResult(TypedDict):
    rows: int
    bytes: int


class JudgeJob(TypedDict):
    id: str
    program: str
    limits: NotRequired[Limits]
    tests: Sequence[str | StdinTest | CheckedTest | SuiteTest | ModuleTest]
    """Python statements, what a script reads and must print, or an answer that is checked."""


class Limits(TypedDict):
    cpuSecondsPerTest: NotRequired[float]
    cpuSecondsPerProgram: NotRequired[float]
    memoryBytes: NotRequired[int]


class StdinTest(TypedDict):
    stdin: str
    stdout: str
    compare: NotRequired[Literal["floats", "tokens", "exact", "decimals"]]


class ComparedCall(TypedDict):
    call: str
    expect: NotRequired[str]
    anyOf: NotRequired[list[str]]
    compare: NotRequired[Literal["exact", "tolerance", "unordered"]]
    tolerance: NotRequired[float]


class CallProperty(TypedDict):
    call: str
    property: str


class CheckedCall(TypedDict):
    call: str
    checker: str
    expect: NotRequired[str]


class CheckedOutput(TypedDict):
    stdin: str
    checker: str
    stdout: NotRequired[str]


class ComparedOutput(TypedDict):
    stdin: str
    anyOf: list[str]
    compare: NotRequired[Literal["floats", "tokens", "exact", "decimals"]]


class SuiteTest(TypedDict):
    suite: str
    task: str
    entryPoint: str
    rules: Literal["0.2.1", "0.3.1"]
    atol: float
    expected: NotRequired[str]


class ModuleTest(TypedDict):
    module: str


class JudgeParams(TypedDict):
    jobs: Sequence[JudgeJob]
    limits: NotRequired[Limits]
    references: NotRequired[Sequence[JudgeJob]]
    """Programs that are to pass all their tests."""
    thresholds: NotRequired[Sequence[float]]
    """Pass rates that decide something."""


class ProgramVerdict(TypedDict):
    id: str
    outcomes: list[TestOutcome]
    flags: list[str]


class TestOutcome(TypedDict):
    status: Verdict
    reason: NotRequired[str]
    inside: NotRequired[bool]
    weak: NotRequired[bool]
    repaired: NotRequired[bool]
    checker: NotRequired[str]


class Measurement(TypedDict):
    id: str
    cpuSeconds: float


class BrokenReference(TypedDict):
    status: Verdict
    reason: NotRequired[str]
    inside: NotRequired[bool]
    weak: NotRequired[bool]
    repaired: NotRequired[bool]
    checker: NotRequired[str]
    id: str
    test: int


class JudgeResult(TypedDict):
    verdicts: list[ProgramVerdict]
    measurements: list[Measurement]
    brokenReferences: list[BrokenReference]


class LimitsParams(TypedDict):
    jobs: Sequence[JudgeJob]
    limits: NotRequired[Limits]


class CpuLimits(TypedDict):
    cpuSecondsPerTest: float
    cpuSecondsPerProgram: float


class LimitsResult(TypedDict):
    limits: list[CpuLimits]


class AnswersParams(TypedDict):
    jobs: Sequence[JudgeJob]
    """References; all tests are suites."""
    limits: NotRequired[Limits]


class ReferenceAnswers(TypedDict):
    id: str
    suites: list[SuiteAnswers | TestOutcome]


class SuiteAnswers(TypedDict):
    status: Literal["answers"]
    answers: str
    """What is handed back as `expected`."""
    slowest: float
    """CPU seconds of the slowest call."""


class AnswersResult(TypedDict):
    answers: list[ReferenceAnswers]


class EvaluateJob(TypedDict):
    id: str
    program: str
    limits: NotRequired[Limits]
    calls: Sequence[str]


class EvaluateParams(TypedDict):
    jobs: Sequence[EvaluateJob]
    limits: NotRequired[Limits]


class ProgramValues(TypedDict):
    id: str
    results: list[CallValue | TestOutcome]


class CallValue(TypedDict):
    status: Literal["value"]
    literal: str


class EvaluateResult(TypedDict):
    values: list[ProgramValues]


class RunJob(TypedDict):
    id: str
    program: str
    limits: NotRequired[Limits]
    stdin: str
    """What the script reads."""


class RunParams(TypedDict):
    jobs: Sequence[RunJob]
    limits: NotRequired[Limits]


class ProgramRun(TypedDict):
    id: str
    status: RunStatus
    exitCode: int | None
    stdout: str
    stderr: str
    cpuSeconds: float
    reason: NotRequired[str]


class RunResult(TypedDict):
    runs: list[ProgramRun]
    """One for each job, in order."""


class MutantsParams(TypedDict):
    jobs: Sequence[JudgeJob]
    """Right programs."""
    limits: NotRequired[Limits]
    mutants: NotRequired[int]
    """Mutants of each answer, at most."""
    seed: NotRequired[int]


class CheckerQuality(TypedDict):
    id: str
    answers: int
    """Tests of the program."""
    accepted: int
    """Answers of the program that pass."""
    mutants: int
    """Changed answers."""
    killed: int
    """Mutants that are rejected."""
    failed: int
    """Mutants on which the checker has a fault."""
    survivors: list[Survivor]


class Survivor(TypedDict):
    test: int
    answer: str


class MutantsResult(TypedDict):
    checkers: list[CheckerQuality]


class NormalizeParams(TypedDict):
    tests: Sequence[str]


class NormalTest(TypedDict):
    test: str
    """Equal for tests that differ in their spelling only."""
    output: str
    """Equal for tests that expect the same value."""


class NormalizeResult(TypedDict):
    tests: list[NormalTest]
    """One for each test, in order."""


class ProbeParams(TypedDict):
    pass


class ProbeResult(TypedDict):
    isolation: str
    level: str
    pythonVersion: str
    harnessVersion: str
    importPolicy: str
    calibrationSeconds: float
    workers: int


ImportedModelSource = GgufModel | GgufFileModel | HubModel | FolderModel
MethodName = Literal[
    "reinforce++",
    "reinforce++-acecoder",
    "grpo",
    "rloo",
    "dr-grpo",
    "dapo",
]
ArtifactKind = Literal[
    "seeds",
    "replies",
    "questions",
    "filteredQuestions",
    "samples",
    "programs",
    "pairs",
    "model",
    "rewardModel",
    "rewardModelCard",
    "policy",
    "roundPlan",
    "rollouts",
    "verdicts",
    "scores",
    "rewards",
    "evaluation",
    "report",
    "dataset",
    "export",
    "tasks",
    "tests",
    "reverification",
    "references",
    "benchmarkSamples",
]
TableFormat = Literal[
    "evolInstruct",
    "ossInstruct",
    "stackPythonFns",
    "aceCoderSeeds",
    "sourceTree",
    "package",
    "aceCode87K",
    "aceCodePair300K",
    "benchmarkRows",
]
CheckedTest = ComparedCall | CallProperty | CheckedCall | CheckedOutput | ComparedOutput
Verdict = Literal[
    "pass",
    "assertion_failed",
    "raised",
    "timeout",
    "not_run",
    "load_error",
    "killed",
    "refused",
    "vacuous",
    "checker_failed",
    "unjudged",
]
RunStatus = Literal[
    "ended",
    "timeout",
    "killed",
    "unjudged",
]


def runtime_operations(
    *,
    checkModel: Callable[[CheckModelParams, Call], CheckModelResult],
    importModel: Callable[[ImportModelParams, Call], ImportModelResult],
    buildMicroModel: Callable[[BuildMicroModelParams, Call], BuildMicroModelResult],
    releaseModels: Callable[[ReleaseModelsParams, Call], ReleaseModelsResult],
    sample: Callable[[SampleParams, Call], SampleResult],
    score: Callable[[ScoreParams, Call], ScoreResult],
    trainRewardModel: Callable[[TrainRewardModelParams, Call], TrainRewardModelResult],
    updatePolicy: Callable[[UpdatePolicyParams, Call], UpdatePolicyResult],
    mergeAdapters: Callable[[MergeAdaptersParams, Call], MergeAdaptersResult],
    fineTune: Callable[[FineTuneParams, Call], FineTuneResult],
    checkTable: Callable[[CheckTableParams, Call], CheckTableResult],
    importTable: Callable[[ImportTableParams, Call], ImportTableResult],
    exportTable: Callable[[ExportTableParams, Call], ExportTableResult],
) -> dict[str, Operation]:
    """The operations of the process `runtime`, by name."""
    return {
        "checkModel": checkModel,
        "importModel": importModel,
        "buildMicroModel": buildMicroModel,
        "releaseModels": releaseModels,
        "sample": sample,
        "score": score,
        "trainRewardModel": trainRewardModel,
        "updatePolicy": updatePolicy,
        "mergeAdapters": mergeAdapters,
        "fineTune": fineTune,
        "checkTable": checkTable,
        "importTable": importTable,
        "exportTable": exportTable,
    }


def sandbox_operations(
    *,
    judge: Callable[[JudgeParams, Call], JudgeResult],
    limits: Callable[[LimitsParams, Call], LimitsResult],
    answers: Callable[[AnswersParams, Call], AnswersResult],
    evaluate: Callable[[EvaluateParams, Call], EvaluateResult],
    run: Callable[[RunParams, Call], RunResult],
    mutants: Callable[[MutantsParams, Call], MutantsResult],
    normalize: Callable[[NormalizeParams, Call], NormalizeResult],
    probe: Callable[[ProbeParams, Call], ProbeResult],
) -> dict[str, Operation]:
    """The operations of the process `sandbox`, by name."""
    return {
        "judge": judge,
        "limits": limits,
        "answers": answers,
        "evaluate": evaluate,
        "run": run,
        "mutants": mutants,
        "normalize": normalize,
        "probe": probe,
    }


def vllm_operations(
    *,
    sample: Callable[[SampleParams, Call], SampleResult],
) -> dict[str, Operation]:
    """The operations of the process `vllm`, by name."""
    return {
        "sample": sample,
    }
