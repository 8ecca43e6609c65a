"""From a few options to a published store: train, rasterize, publish.

`choose` turns options into a `ProductionRun`, `carry_out` carries it out, `foresee` estimates its
cost. Both yield the lines that the command prints; the stages themselves are in `stages`.
"""

from collections.abc import Generator, Iterator, Mapping

from unigeo.producer.observations.forms import COORDINATE
from unigeo.producer.observations.protocol import Observations
from unigeo.producer.observations.wrapping import only
from unigeo.producer.pipeline.forecast import (
    DERIVING,
    OBSERVING,
    PUBLISHING,
    RASTERIZING,
    TRAINING,
    compare_times,
    forecast,
    format_stages,
    steps_before,
)
from unigeo.producer.pipeline.production_run import ProductionRun, choose, describe
from unigeo.producer.pipeline.stages import (
    announce_run,
    begin_store,
    count_vectors,
    interpolation_errors,
    open_job,
    open_run_model,
    publish_store,
    root_of,
    train_model,
)
from unigeo.producer.pipeline.stopping import kept_when_stopped
from unigeo.producer.publishing.rehearsal import StageClock
from unigeo.producer.publishing.releases import NextRelease, take_over
from unigeo.producer.publishing.terms import Terms
from unigeo.producer.publishing.updates import is_unchanged
from unigeo.producer.raster.coordinate_detail import describe_detail
from unigeo.producer.raster.cost_estimate import format_estimate, size
from unigeo.producer.raster.encoding import ModelEncoder, encoder_of
from unigeo.producer.raster.local_executor import RasterReport
from unigeo.producer.raster.observed_detail import observed_detail
from unigeo.producer.raster.planning import planned
from unigeo.producer.raster.run import ExecutionOptions, fill, refuse_failures
from unigeo.producer.raster.shard_task import OpenedJob
from unigeo.producer.raster.store_lease import StoreLease, lease_store
from unigeo.producer.storage.field_store import check_begun, is_published
from unigeo.producer.storage.output_checks import check_writable, free_bytes
from unigeo.producer.training.processes import default_device
from unigeo.producer.training.train import finished_metrics
from unigeo.schemas.io.durations import format_duration
from unigeo.schemas.io.retrying import patient
from unigeo.schemas.io.stores import open_group
from unigeo.schemas.store.supported_cells import describe_support, resolution_warning

__all__ = ["carry_out", "choose", "describe", "foresee"]


def carry_out(
    run: ProductionRun,
    observations: Observations,
    *,
    options: ExecutionOptions | None = None,
    terms: Terms | None = None,
    predicted: Mapping[str, float] | None = None,
    publishes: bool = True,
) -> Generator[str, None, str]:
    """Train, rasterize and publish; yields a line after each stage.

    Every stage resumes where an earlier call stopped, and is left out where its output is current.

    Args:
        run: what to produce.
        observations: what is observed.
        options: how the run is executed; here, with bars on stderr, by default.
        terms: terms of publication.
        predicted: seconds of each stage, as `forecast` predicted them, to be compared at the end.
        publishes: go on to publication once all shards are written.

    Returns:
        URL of the store: of the previous release where nothing has changed since.

    Raises:
        UnigeoError: naming the stage, what happened and what to do; finished parts are kept.
    """
    options = options or ExecutionOptions()
    check_writable(run.out)
    with patient(options.patience_s), lease_store(run.out) as lease:
        clock = StageClock()
        url = yield from _carry_out(
            run, observations, options, lease, terms or Terms(), clock, publishes
        )
        if predicted is not None and clock.seconds[PUBLISHING]:
            yield f"took          {compare_times(_taken(clock), predicted)}"
        return url


def _taken(clock: StageClock) -> dict[str, float]:
    """Return the seconds of each stage: publishing encloses some of what is derived."""
    spent = clock.seconds
    derived = spent["colours"] + spent["concepts"] + spent[DERIVING]
    return {name: spent[name] for name in (OBSERVING, TRAINING, RASTERIZING)} | {
        DERIVING: derived + spent["fusing"],
        PUBLISHING: spent[PUBLISHING] - derived,
    }


def _carry_out(
    run: ProductionRun,
    observations: Observations,
    options: ExecutionOptions,
    lease: StoreLease,
    terms: Terms,
    clock: StageClock,
    publishes: bool,
) -> Generator[str, None, str]:
    device = default_device()
    if run.model_settings is not None:
        observations = only(observations, run.model_settings.modalities)
        is_new = finished_metrics(run.model) is None
        with (
            clock.stage(TRAINING),
            kept_when_stopped(
                f"before the first step of training or after the last; what {run.model} held is "
                "kept, and the same command goes on from there"
            ),
        ):
            metrics = train_model(run, observations, device, progress=options.progress)
        if metrics is None:
            return run.out
        if is_new:
            clock.move(metrics["seconds"]["observe"], TRAINING, OBSERVING)
        recall, chance = metrics["mean"]["R@10"], metrics["chance"]["R@10"]
        yield (
            f"trained       mean R@10 {100 * recall:.1f} % on held-out blocks "
            f"(chance {100 * chance:.2f} %); {run.model}/card.md"
        )
    loaded = open_run_model(run, observations)
    attributes, following = root_of(run, observations, loaded, terms), run.following
    if following is not None and is_unchanged(following, attributes, run.region, observations.land):
        yield _describe_unchanged(following)
        return following.previous_url
    group, complete = begin_store(run, observations, lease, attributes=attributes, terms=terms)
    if complete:
        lease.clean_up()
        announce_run(run)
        yield f"published     {run.out}, as it was: {count_vectors(group):,} vectors"
        return run.out
    was_published = is_published(group)
    if following is not None:
        taken = take_over(following.previous_url, group, run.region, observations.land)
        yield _describe_taken_over(following, taken)
    encoder = encoder_of(
        loaded.model, observations, device, run.interpolate, tokenizer=loaded.tokenizer
    )
    opened = open_job(run, observations, encoder, options, loaded.identity)
    yield from _describe_interpolation(encoder, opened)
    with (
        clock.stage(RASTERIZING),
        kept_when_stopped(
            f"the finished shards of {run.out} are kept, and the same command goes on with the next"
        ),
    ):
        report = fill(group, opened, options, lease)
    clock.move(report.derived_seconds, RASTERIZING, "fusing")
    yield from _describe_report(report, observations)
    refuse_failures(run.out, report, lease, options)
    if not publishes:
        return run.out
    with (
        clock.stage(PUBLISHING),
        kept_when_stopped(f"all shards of {run.out} are kept, and the same command publishes them"),
    ):
        here = publish_store(
            run, observations, loaded, group, lease, progress=options.progress, clock=clock
        )
    count = count_vectors(open_group(run.out))
    told = "" if here else ", as it was" if was_published else ", by another run"
    yield f"published     {run.out}{told}: {count:,} vectors"
    return run.out


def _describe_unchanged(following: NextRelease) -> str:
    begun = (
        f"; {following.url}, which a change begun and taken back has left, can be removed"
        if following.is_begun
        else ""
    )
    return (
        f"published     {following.previous_url}, release {following.previous}: nothing has "
        f"changed since, so no other is made{begun}"
    )


def _describe_taken_over(following: NextRelease, count: int) -> str:
    return f"taken over    {count:,} shards of release {following.previous}, unchanged"


def _describe_interpolation(encoder: ModelEncoder, opened: OpenedJob) -> Iterator[str]:
    """Say what interpolation costs in accuracy, where there is any."""
    measured = interpolation_errors(encoder, opened)
    if measured is not None:
        errors, count = measured
        yield (
            f"interpolated  one of {encoder.interpolate**2} coordinates encoded; on {count} cells "
            f"an error of {errors}"
        )


def _describe_report(report: RasterReport, observations: Observations) -> Iterator[str]:
    """Say what was rasterized, what failed, and what was not observed."""
    counts = ", ".join(f"{count:,} {code.label}" for code, count in sorted(report.cells.items()))
    yield f"rasterized    {report.shards} shards in {report.seconds:.0f} s: {counts or 'all there'}"
    for message, count in report.failures.items():
        yield f"failed        {count:,} cells, {message}"
    for modality, reasons in observations.gaps().items():
        listed = ", ".join(f"{count:,} {reason}" for reason, count in reasons.items())
        yield f"gaps          {modality}: {listed or 'none'}"


def foresee(
    run: ProductionRun,
    observations: Observations,
    *,
    workers: int = 1,
    price_per_hour: float | None = None,
    terms: Terms | None = None,
) -> Iterator[str]:
    """Say what a run will cost: cells, shards, bytes, operations, time and money; keeps nothing.

    The speed is measured here: a few samples are observed, a few steps done, cells of one shard
    encoded, and two shards of random vectors published in a temporary folder.
    """
    check_writable(run.out, waits=False)
    steps_before(run, observations)  # refuses another training's folder
    following, loaded = run.following, None
    if finished_metrics(run.model) is not None:
        loaded = open_run_model(run, observations)
        attributes = root_of(run, observations, loaded, terms or Terms())
        land = observations.land
        if following is not None and is_unchanged(following, attributes, run.region, land):
            yield _describe_unchanged(following)
            return
        lacks_shards = len(planned(run.out, run.grid, run.layout)) > 0
        check_begun(run.out, attributes, lacks_shards=lacks_shards)
    seen = forecast(run, observations, workers, loaded)
    settings = seen.encoder.model.settings.coordinate
    if settings is not None and COORDINATE in run.layout.modalities:
        yield f"detail        {describe_detail(settings, run.grid.resolution_m)}"
    details = observed_detail(observations, run.layout.modalities, run.region.middle)
    if details:
        yield f"supports      {describe_support(details)}"
        if warning := resolution_warning(details, run.grid.resolution_m):
            yield f"warning       {warning}"
    yield from _describe_interpolation(seen.encoder, seen.opened)
    if following is not None and seen.taken_over:
        yield _describe_taken_over(following, seen.taken_over)
    yield from format_estimate(seen.plans, seen.flops, seen.speeds)
    needed, free = sum(each.bytes for each in seen.plans), free_bytes(run.out)
    if free is not None and needed > free:
        yield f"warning       {run.out} needs {size(needed)}, and its disk has {size(free)} left"
    if seen.seconds is None:
        yield "time          unknown"
        return
    whole = sum(seen.seconds.values())
    many = f" with {workers} workers like this" if workers > 1 else ""
    yield (
        f"time          about {format_duration(whole)}{many}: {format_stages(seen.seconds)}; by a "
        f"measurement of {seen.measured_s:.0f} s"
    )
    if price_per_hour is not None:
        yield f"cost          about {whole * workers / 3600 * price_per_hour:,.2f}"
