"""The lifecycle node: images in, emotions out."""

import signal

if __name__ == "__main__":  # while it imports, Ctrl-C ends it without a trace, as in start.py
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import gc
import importlib.util
import sys
import traceback
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.clock import Clock, ClockType
from rclpy.impl.rcutils_logger import RcutilsLogger
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.logging import get_logger
from std_msgs.msg import Header
from std_srvs.srv import SetBool

from fer_ros.cameras import CamerasPipeline
from fer_ros.config import PipelineConfig
from fer_ros.crops import CropPipeline
from fer_ros.errors import with_file
from fer_ros.ros.camera_session import CameraSession
from fer_ros.ros.diagnostics import to_values
from fer_ros.ros.identities import Identities
from fer_ros.ros.outputs import Outputs
from fer_ros.ros.params import NodeConfig, Parameters, id_prefix
from fer_ros.ros.process import ros, spin
from fer_ros.ros.session import Session

_REPORT_S = 1.0
_OF_NO_USE = (ValueError, OSError, ImportError, RuntimeError)  # models, files, packages, devices


class EmotionNode(LifecycleNode):
    """Reads the faces of one camera or several, or those that another node finds.

    Unconfigured, it takes parameters; active, it is subscribed and works on the newest images.
    Configured, it has its models loaded; deactivated again, it keeps those on a CPU, where nothing
    is scarce but the time to load them, and lets those on another device go until it is activated.
    ``make_pipeline`` and ``make_crop_pipeline`` make the pipeline of its cameras and settings; the
    other arguments are those of rclpy's nodes.
    """

    def __init__(
        self,
        make_pipeline: Callable[[Sequence[str], PipelineConfig], CamerasPipeline] = CamerasPipeline,
        make_crop_pipeline: Callable[[PipelineConfig], CropPipeline] = CropPipeline,
        **node_arguments: Any,
    ) -> None:
        super().__init__(
            "emotion_node",
            automatically_declare_parameters_from_overrides=True,
            **node_arguments,
        )
        self._make_pipeline = make_pipeline
        self._make_crop_pipeline = make_crop_pipeline
        self._settings = Parameters(self, NodeConfig, PipelineConfig, on_change=self._apply)
        self._config = NodeConfig()
        self._pipeline: CamerasPipeline | CropPipeline | None = None
        self._is_on_cpu = True
        self._outputs: Outputs | None = None
        self._identities: dict[str, Identities] = {}
        self._session: Session | None = None
        self._trouble = ""  # why the last transition failed
        self._is_over = False
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self.create_service(SetBool, "~/set_enabled", self._set_enabled)
        # Not the clock of ROS: a paused bag stops it, and the node is to report all the same.
        self._timer = self.create_timer(
            _REPORT_S, self._report, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )

    def start(self) -> None:
        """Configures and activates, unless the parameter ``autostart`` is false."""
        if self.get_parameter("autostart").value is False:
            return
        if _succeeds(self.trigger_configure):
            self.trigger_activate()
        else:
            self.get_logger().info("unconfigured: once it is mended, configure and activate it")

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Reads the parameters, loads the models; FAILURE and one line when one is of no use."""
        with _Aloud("configure", self.get_logger()):
            if not self._manages("cannot be configured", self._configure):
                self._free()
                return TransitionCallbackReturn.FAILURE
            return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribes, with the models loaded again; FAILURE and one line when they cannot be."""
        with _Aloud("activate", self.get_logger()):
            if not self._pipeline and not self._manages("cannot be activated", self._load):
                self._unload()
                return TransitionCallbackReturn.FAILURE
            enabled = super().on_activate(state)
            self._session = self._make_session()
            return enabled

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribes, lets the frame in hand be done, then the models go, unless on a CPU."""
        with _Aloud("deactivate", self.get_logger()):
            self._rest()
            if not self._is_on_cpu:
                self._unload()
            return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Lets the models go; parameters can be set again."""
        with _Aloud("cleanup", self.get_logger()):
            self._free()
            self._trouble = ""
            return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Lets everything go, from whatever state."""
        with _Aloud("shutdown", self.get_logger()):
            self._rest()
            self._free()
            self._trouble, self._is_over = "", True
            return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """After an exception in another transition: back to unconfigured."""
        with _Aloud("error", self.get_logger()):
            self._rest()
            self._free()
            self._trouble = "a transition ended in an exception, which the log shows"
            return TransitionCallbackReturn.SUCCESS

    def destroy_node(self) -> None:
        """Stops the work before its publishers go."""
        self._rest()
        self._free()
        super().destroy_node()

    def _set_enabled(
        self, request: SetBool.Request, response: SetBool.Response
    ) -> SetBool.Response:
        """Whether it looks at faces: activates, from whatever state, or deactivates."""
        steps = [self.trigger_deactivate]
        if request.data:
            steps = [self.trigger_activate]
            if not self._outputs:
                steps = [self.trigger_configure, self.trigger_activate]
        is_so = request.data == bool(self._session)
        response.success = is_so or all(_succeeds(step) for step in steps)
        response.message = self._report_of_rest().message if not self._session else "active"
        return response

    def _manages(self, complaint: str, step: Callable[[], None]) -> bool:
        """Whether it could be done; what stood against it is told, and it can be tried again."""
        try:
            step()
        except _OF_NO_USE as error:
            self._trouble = with_file(error)
            self.get_logger().error(f"{complaint}: {self._trouble}")
            return False
        return True

    def _configure(self) -> None:
        self._config = self._settings.read(NodeConfig)
        _demand("hri_msgs", "source ros4hri", self._config.source == "ros4hri")
        _demand("tf2_msgs", "publish_tf", self._config.publish_tf)
        self._outputs = Outputs(self, self._config)
        if self._config.source == "camera":
            self._identities = {
                camera: Identities(id_prefix(camera, self._config), self._config.deterministic_ids)
                for camera in self._config.cameras
            }
        self._load()
        self._settings.locked = True

    def _load(self) -> None:
        settings = self._settings.read(PipelineConfig)
        if self._config.source == "camera":
            self._pipeline = self._make_pipeline(self._config.cameras, settings)
        else:
            self._pipeline = self._make_crop_pipeline(settings)
        classifier = self._pipeline.classifier
        self._is_on_cpu = classifier.device == "cpu"  # before it works: a full GPU gives way to it
        classifier.warm_up()
        self._trouble = ""
        self.get_logger().info(f"loaded: model {classifier.card.name}, {classifier.reason}")

    def _make_session(self) -> Session:
        assert self._pipeline and self._outputs, "it is configured"
        if isinstance(self._pipeline, CamerasPipeline):
            return CameraSession(
                self, self._config, self._pipeline, self._outputs, self._identities
            )
        from fer_ros.ros.crop_session import CropSession  # brings hri_msgs, which not all have

        return CropSession(self, self._config, self._pipeline, self._outputs)

    def _apply(self, changes: dict[str, Any]) -> None:
        """Parameters of a configured node change; they have been checked."""
        self._config = self._settings.read(NodeConfig, changes)
        settings = self._settings.read(PipelineConfig, changes)
        if self._outputs:
            self._outputs.reconfigure(self._config)
        if self._session:
            self._session.config, self._session.settings = self._config, settings
        elif self._pipeline:
            self._pipeline.reconfigure(settings)

    def _rest(self) -> None:
        if self._session:
            self._session.close()
            self._session = None

    def _free(self) -> None:
        if self._outputs:
            self._outputs.close()
        self._outputs = None
        self._identities = {}
        self._settings.locked = False
        self._unload()

    def _unload(self) -> None:
        """Gives the memory of the models back, also that of a GPU, but for CUDA's own."""
        self._pipeline = None
        gc.collect()
        torch = sys.modules.get("torch")
        if torch and torch.cuda.is_initialized():
            torch.cuda.empty_cache()

    def _engine(self) -> dict[str, str]:
        """What computes."""
        if self._pipeline is None:
            return {}
        classifier = self._pipeline.classifier
        return {
            "device": classifier.device,
            "model": classifier.card.name,
            "sha256": classifier.card.sha256,
            "reason": classifier.reason,
            "fallback": classifier.fallback,
        }

    def _report(self) -> None:
        rest = {camera: self._report_of_rest() for camera in self._config.cameras}
        statuses = self._session.report() if self._session else rest
        engine = self._engine()
        for camera, status in statuses.items():
            status.name = f"{self.get_fully_qualified_name()}: {camera} frames".replace("  ", " ")
            status.values = [*to_values(engine), *status.values]
            if engine.get("fallback") and status.level == DiagnosticStatus.OK:
                status.level = DiagnosticStatus.WARN
                status.message = f"{status.message}; {engine['fallback']}"
        header = Header(stamp=self.get_clock().now().to_msg())
        self._diagnostics.publish(DiagnosticArray(header=header, status=[*statuses.values()]))

    def _report_of_rest(self) -> DiagnosticStatus:
        if self._trouble:
            return DiagnosticStatus(level=DiagnosticStatus.ERROR, message=self._trouble)
        state = "shut down" if self._is_over else "unconfigured"
        message = "inactive" if self._outputs else state
        return DiagnosticStatus(level=DiagnosticStatus.OK, message=message)


def _demand(package: str, by: str, is_needed: bool) -> None:
    if is_needed and importlib.util.find_spec(package) is None:
        raise ImportError(f"parameter {by}: {package} is not installed")


def _succeeds(transition: Callable[[], TransitionCallbackReturn]) -> bool:
    return transition() == TransitionCallbackReturn.SUCCESS


class _Aloud:
    """Logs the exception that ends a transition: rclpy swallows it without a word."""

    def __init__(self, transition: str, logger: RcutilsLogger) -> None:
        self._transition = transition
        self._logger = logger

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            told = "".join(traceback.format_exception(kind, error, trace))
            self._logger.error(f"{self._transition}: {told}")


def main(args: list[str] | None = None) -> int:
    """Runs the node until Ctrl-C or SIGTERM; 1 when it cannot be made of its parameters."""
    with ros(args) as ended:
        try:
            node = EmotionNode()
        except ValueError as error:  # rclpy's, of a value without a type, such as an empty list
            get_logger("emotion_node").error(f"parameters: {with_file(error)}; is one of them []?")
            return 1
        try:
            node.start()
            spin(node, ended.is_set)
        finally:
            node.destroy_node()
    return 0


if __name__ == "__main__":
    sys.exit(main())
