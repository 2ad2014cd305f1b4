"""What scikit-learn 1.9's fit callbacks are told; older releases have none."""

from skad._sklearn import CallbackSupportMixin


class FitCallbacksMixin(CallbackSupportMixin):
    """Reports the beginning, the end and the steps of a fit to callbacks."""

    def _begin_callbacks(self, X, y):
        if hasattr(self, "_init_callback_context"):
            self._init_callback_context(max_subtasks=None).call_on_fit_task_begin(
                estimator=self, X=X, y=y
            )

    def _end_callbacks(self, X, y):
        context = getattr(self, "_callback_fit_ctx", None)
        if context is not None:
            # empty: by now the detector itself is the fitted one that callbacks score
            context.call_on_fit_task_end(
                estimator=self, X=X, y=y, reconstruction_attributes={}
            )

    def _subtask(self, name):
        """Return the callback task of a part of the fit; None without callbacks."""
        root = getattr(self, "_callback_fit_ctx", None)
        return None if root is None else root.subcontext(task_name=name)

    def _steps(self, iterable, name, total, may_stop=False, state=None):
        """Pass `iterable` through, one callback task per item.

        A callback's wish to stop counts only with `may_stop`, where the items left out
        make the model coarser but not wrong. `state` is what callbacks need to score
        the detector as if the fit ended after an item: a dict with X, y and a function
        `reconstruction_attributes` that returns the attributes it would have.
        """
        state = state or {}
        root = getattr(self, "_callback_fit_ctx", None)
        if root is None or not hasattr(self, "_skl_callbacks"):
            yield from iterable
            return
        phase = root.subcontext(task_name=name, max_subtasks=total)
        phase.call_on_fit_task_begin(estimator=self)
        for item in iterable:
            step = phase.subcontext(task_name=f"{name} step")
            step.call_on_fit_task_begin(estimator=self)
            try:
                yield item
            except GeneratorExit:  # the loop was left before its last item
                # after an error this may come only once the callbacks are torn down
                if getattr(self, "_callback_fit_ctx", None) is root:
                    step.call_on_fit_task_end(estimator=self, **state)
                    phase.call_on_fit_task_end(estimator=self)
                raise
            if step.call_on_fit_task_end(estimator=self, **state) and may_stop:
                break
        phase.call_on_fit_task_end(estimator=self)
