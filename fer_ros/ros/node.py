"""The lifecycle node: images in, emotions out."""

import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.logging import get_logger
from std_msgs.msg import Header
from std_srvs.srv import SetBool

from fer_ros.config import PipelineConfig
from fer_ros.crop_pipeline import FaceCropPipeline
from fer_ros.face_ids import IdFactory, random_ids, sequential_ids
from fer_ros.inference.devices import release_cuda_memory
from fer_ros.io.errors import format_os_error
from fer_ros.multi_camera import MultiCameraPipeline
from fer_ros.ros.diagnostics import to_key_values
from fer_ros.ros.log_forwarding import forwarded_library_logs
from fer_ros.ros.output.publishers import ResultPublishers
from fer_ros.ros.parameter_files import warn_unmatched_sections
from fer_ros.ros.parameters import NodeConfig, Parameters, id_prefix
from fer_ros.ros.processing.base import Processor
from fer_ros.ros.processing.images import ImageProcessor
from fer_ros.ros.runtime import killed_by_signals, rclpy_context, spin_until

_REPORT_PERIOD_S = 1.0
_CONFIGURE_ERRORS = (ValueError, OSError, ImportError, RuntimeError)  # models, packages, devices


class EmotionNode(LifecycleNode):
    """Recognizes emotions in the images of one or more cameras, or in faces of another node.

    * unconfigured: parameters can be set;
    * inactive: the models are loaded. After deactivation models on a GPU are unloaded until the
      next activation; those on the CPU stay loaded.
    * active: subscribed to images; the latest image is processed.

    Args:
        make_pipeline: creates the pipeline from the cameras with their id factories and settings.
        make_crop_pipeline: creates the pipeline for ``input_source`` ros4hri from settings.
        loading_context: entered while models are loaded, which can take minutes.
        node_arguments: keyword arguments of rclpy's nodes.
    """

    def __init__(
        self,
        make_pipeline: Callable[
            [Mapping[str, IdFactory], PipelineConfig], MultiCameraPipeline
        ] = MultiCameraPipeline,
        make_crop_pipeline: Callable[[PipelineConfig], FaceCropPipeline] = FaceCropPipeline,
        loading_context: Callable[[], AbstractContextManager[None]] = nullcontext,
        **node_arguments: Any,
    ) -> None:
        super().__init__(
            "emotion_node",
            automatically_declare_parameters_from_overrides=True,
            **node_arguments,
        )
        self._make_pipeline = make_pipeline
        self._make_crop_pipeline = make_crop_pipeline
        self._loading_context = loading_context
        self._node_parameters = Parameters(
            self, NodeConfig, PipelineConfig, on_change=self._reconfigure
        )
        self._config = NodeConfig()
        self._pipeline: MultiCameraPipeline | FaceCropPipeline | None = None
        self._is_on_cpu = True
        self._result_publishers: ResultPublishers | None = None
        self._id_factories: dict[str, IdFactory] = {}  # they outlive the pipeline
        self._processor: Processor | None = None
        self._last_error = ""  # of the last transition
        self._is_shut_down = False
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self.create_service(SetBool, "~/set_enabled", self._on_set_enabled)
        # A steady clock: the ROS clock stands still while a bag is paused.
        self._timer = self.create_timer(
            _REPORT_PERIOD_S, self._report, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )

    def start(self) -> None:
        """Configure and activate, unless the parameter ``autostart`` is false."""
        if self.get_parameter("autostart").value is False:
            self.get_logger().info(
                "autostart is false: waiting for a lifecycle manager, or for "
                f"'ros2 lifecycle set {self.get_fully_qualified_name()} configure'"
            )
        elif _succeeds(self.trigger_configure):
            self.trigger_activate()
        else:
            self.get_logger().info(
                "Configuration failed. Fix the error above, then configure and activate the node."
            )

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Read the parameters and load the models; FAILURE and one logged line on an error."""
        with self._log_exception("configure"):
            if not self._try("cannot be configured", self._configure):
                self._release()
                return TransitionCallbackReturn.FAILURE
            return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe, loading unloaded models first; FAILURE and one logged line on an error."""
        with self._log_exception("activate"):
            if not self._pipeline and not self._try("cannot be activated", self._load_models):
                self._unload_models()
                return TransitionCallbackReturn.FAILURE
            result = super().on_activate(state)
            assert self._pipeline, "the models are loaded"
            # A change while the node was active may wait for an image that never came.
            self._pipeline.reconfigure(self._node_parameters.read(PipelineConfig))
            self._processor = self._make_processor()
            return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe, finish the frame in progress, and unload models that are on a GPU."""
        with self._log_exception("deactivate"):
            self._stop_processing()
            if not self._is_on_cpu:
                self._unload_models()
            return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unload the models; parameters can be set again."""
        with self._log_exception("cleanup"):
            self._release()
            self._last_error = ""
            return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release everything, from any state."""
        with self._log_exception("shutdown"):
            self._stop_processing()
            self._release()
            self._last_error, self._is_shut_down = "", True
            return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Return to unconfigured after an exception in another transition."""
        with self._log_exception("error"):
            self._stop_processing()
            self._release()
            self._last_error = "a transition raised an exception; see the log"
            return TransitionCallbackReturn.SUCCESS

    def trigger_shutdown(self) -> TransitionCallbackReturn:
        """Shut down; ERROR when the node is finalized already."""
        try:
            return super().trigger_shutdown()
        except RuntimeError as error:  # the base class of RCLError
            self.get_logger().error(f"Shutdown is not possible: {error}")
            return TransitionCallbackReturn.ERROR

    def destroy_node(self) -> None:
        """Stop processing before the publishers are destroyed."""
        self._stop_processing()
        self._release()
        super().destroy_node()

    def _LifecycleNodeMixin__change_state(  # noqa: N802
        self, transition_id: int
    ) -> TransitionCallbackReturn:
        """Refuse an impossible transition with ERROR in every distribution.

        rclpy does so from Kilted on. In Humble and Jazzy its method, which this one overrides,
        raises RCLError, which would end the process and leave the client without a response.
        """
        possible = {transition[0] for transition in self._state_machine.available_transitions}
        if transition_id not in possible:
            label = self._state_machine.current_state[1]
            self.get_logger().error(
                f"Transition {transition_id} is not possible from state {label!r}."
            )
            return TransitionCallbackReturn.ERROR
        change_state = super()._LifecycleNodeMixin__change_state  # type: ignore[misc]
        return change_state(transition_id)

    def _on_set_enabled(
        self, request: SetBool.Request, response: SetBool.Response
    ) -> SetBool.Response:
        """Activate from any state, or deactivate."""
        steps = [self.trigger_deactivate]
        if request.data:
            steps = [self.trigger_activate]
            if not self._result_publishers:
                steps = [self.trigger_configure, self.trigger_activate]
        is_done = request.data == bool(self._processor)
        response.success = is_done or all(_succeeds(step) for step in steps)
        response.message = "active" if self._processor else self._idle_status().message
        return response

    def _try(self, failure: str, step: Callable[[], None]) -> bool:
        """Run a step of a transition; log an expected error and return False."""
        try:
            step()
        except _CONFIGURE_ERRORS as error:
            self._last_error = format_os_error(error)
            self.get_logger().error(f"{failure}: {self._last_error}")
            return False
        return True

    @contextmanager
    def _log_exception(self, transition: str) -> Iterator[None]:
        """Log an exception of a transition callback; rclpy discards it."""
        with ExitStack() as on_error:
            on_error.callback(
                lambda: self.get_logger().error(f"{transition}: {traceback.format_exc()}")
            )
            yield
            on_error.pop_all()

    def _configure(self) -> None:
        self._config = self._node_parameters.read(NodeConfig)
        if self._config.input_source == "ros4hri":
            _require_package("hri_msgs", "input_source ros4hri")
        if self._config.publish_tf:
            _require_package("tf2_msgs", "publish_tf")
        self._result_publishers = ResultPublishers(self, self._config)
        if self._config.input_source == "camera":
            make_ids = sequential_ids if self._config.deterministic_ids else random_ids
            self._id_factories = {
                camera: make_ids(id_prefix(camera, self._config)) for camera in self._config.cameras
            }
        self._load_models()
        self._node_parameters.locked = True

    def _load_models(self) -> None:
        pipeline_config = self._node_parameters.read(PipelineConfig)
        with self._loading_context():
            if self._config.input_source == "camera":
                self._pipeline = self._make_pipeline(self._id_factories, pipeline_config)
            else:
                self._pipeline = self._make_crop_pipeline(pipeline_config)
            classifier = self._pipeline.classifier
            # read before the warm-up: a full GPU falls back to the CPU
            self._is_on_cpu = classifier.device == "cpu"
            warm_up_s = classifier.warm_up()
        self._last_error = ""
        self.get_logger().info(
            f"loaded model {classifier.manifest.name}, {classifier.reason}, "
            f"warm-up {warm_up_s:.1f} s"
        )

    def _make_processor(self) -> Processor:
        assert self._pipeline and self._result_publishers, "the node is configured"
        if isinstance(self._pipeline, MultiCameraPipeline):
            return ImageProcessor(self, self._config, self._pipeline, self._result_publishers)
        from fer_ros.ros.processing.face_crops import FaceCropProcessor  # needs hri_msgs

        return FaceCropProcessor(self, self._config, self._pipeline, self._result_publishers)

    def _reconfigure(self, changes: dict[str, Any]) -> None:
        """Apply validated parameter changes to a configured node."""
        self._config = self._node_parameters.read(NodeConfig, changes)
        pipeline_config = self._node_parameters.read(PipelineConfig, changes)
        if self._result_publishers:
            self._result_publishers.reconfigure(self._config)
        if self._processor:
            self._processor.node_config = self._config
            self._processor.pipeline_config = pipeline_config
        elif self._pipeline:
            self._pipeline.reconfigure(pipeline_config)

    def _stop_processing(self) -> None:
        if self._processor:
            self._processor.close()
            self._processor = None

    def _release(self) -> None:
        if self._result_publishers:
            self._result_publishers.close()
        self._result_publishers = None
        self._id_factories = {}
        self._node_parameters.locked = False
        self._unload_models()

    def _unload_models(self) -> None:
        """Free the memory of the models, on a GPU all but that of the CUDA context."""
        self._pipeline = None
        release_cuda_memory()

    def _backend_info(self) -> dict[str, str]:
        """Device, model and backend for the diagnostics."""
        if self._pipeline is None:
            return {}
        classifier = self._pipeline.classifier
        return {
            "device": classifier.device,
            "model": classifier.manifest.name,
            "sha256": classifier.manifest.sha256,
            "provider": classifier.provider,
            "precision": classifier.precision,
            "reason": classifier.reason,
            "fallback": self._pipeline.fallback,
        }

    def _report(self) -> None:
        if self._processor:
            statuses = self._processor.report()
        else:
            statuses = {camera: self._idle_status() for camera in self._config.cameras}
        backend = self._backend_info()
        for camera, status in statuses.items():
            status.name = f"{self.get_fully_qualified_name()}: {camera} frames".replace("  ", " ")
            status.hardware_id = camera
            status.values = [*to_key_values(backend), *status.values]
            if backend.get("fallback") and status.level == DiagnosticStatus.OK:
                status.level = DiagnosticStatus.WARN
                status.message = f"{status.message}; {backend['fallback']}"
        header = Header(stamp=self.get_clock().now().to_msg())
        self._diagnostics.publish(DiagnosticArray(header=header, status=[*statuses.values()]))

    def _idle_status(self) -> DiagnosticStatus:
        """Status of the node while it is not active."""
        if self._last_error:
            return DiagnosticStatus(level=DiagnosticStatus.ERROR, message=self._last_error)
        state = "shut down" if self._is_shut_down else "unconfigured"
        message = "inactive" if self._result_publishers else state
        return DiagnosticStatus(level=DiagnosticStatus.OK, message=message)


def _require_package(package: str, parameter: str) -> None:
    if importlib.util.find_spec(package) is None:
        apt_name = f"ros-$ROS_DISTRO-{package.replace('_', '-')}"
        raise ImportError(
            f"parameter {parameter}: {package} is not installed; sudo apt install {apt_name}"
        )


def _succeeds(transition: Callable[[], TransitionCallbackReturn]) -> bool:
    return transition() == TransitionCallbackReturn.SUCCESS


def main(args: list[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM; return 1 when it cannot be created."""
    with rclpy_context(args) as stop_requested:
        try:
            node = EmotionNode(loading_context=killed_by_signals)
        except ValueError as error:  # from rclpy, for a value without a type such as []
            get_logger("emotion_node").error(
                f"parameters: {format_os_error(error)}; a value such as [] has no type"
            )
            return 1
        try:
            warn_unmatched_sections(node, sys.argv if args is None else args)
            with forwarded_library_logs(node):
                node.start()
                spin_until(node, stop_requested.is_set)
        finally:
            node.destroy_node()
    return 0


if __name__ == "__main__":
    sys.exit(main())
