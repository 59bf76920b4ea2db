// begin groups
import { getAuth } from "firebase/auth";
import { balanceApi } from "@example/group-balance";

export const api = balanceApi({
  url: "https://us-central1-your-project.cloudfunctions.net/balance_api",
  token: async (refresh) => (await getAuth().currentUser?.getIdToken(refresh)) ?? "",
});
// end groups

// begin list
import type { BalanceApi, GroupEntry } from "@example/group-balance";

/** All groups of the user, or what to say instead. */
export async function myGroups(api: BalanceApi): Promise<GroupEntry[] | string> {
  const groups: GroupEntry[] = [];
  let pageToken: string | undefined;
  do {
    const answer = await api.balances({ pageToken });
    if (!answer.ok) {
      const { error } = answer;
      switch (error.kind) {
        case "unauthenticated":
          return "Please sign in again.";
        case "too many requests":
        case "unavailable":
          return `Try again in ${error.retryAfterSeconds} s.`;
        case "network":
          return "You are offline.";
        default:
          return "Your groups cannot be shown."; // error.message is for the developers' log
      }
    }
    groups.push(...answer.value.groups);
    pageToken = answer.value.nextPageToken ?? undefined;
  } while (pageToken !== undefined);
  return groups;
}
// end list
