// A wallet, as extensions put one into a page: EIP-1193, announced as in EIP-6963. Keys and
// decisions are in the test's process, behind `walletRequest`.
(() => {
  const provider = {
    async request({ method, params }) {
      const { result, error } = await window.walletRequest(method, params ?? []);
      if (error) throw Object.assign(new Error(error.message), error);
      return result;
    },
    on() {},
  };
  const svg = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 8 8"><circle cx="4" cy="4" r="4" fill="orange"/></svg>';
  const info = {
    uuid: "350670db-19fa-4704-a166-e52e178b59d2",
    name: "Test Wallet",
    icon: "data:image/svg+xml," + encodeURIComponent(svg),
    rdns: "example.wallet",
  };
  const announce = () =>
    dispatchEvent(
      new CustomEvent("eip6963:announceProvider", { detail: Object.freeze({ info, provider }) }),
    );
  addEventListener("eip6963:requestProvider", announce);
  announce();
})();
