-- A batch of new days: the users at 100 positions in a row, who are far apart. The server makes the arrays, which is
-- about 2% of the call.
select b.*
from (
  select array_agg({user} order by {order}) as ids,
    array_agg((:zones)[1 + (x.u / 10 % :zone_count::bigint)::int] order by {order}) as zones,
    array_agg('6e1f0c1a-4e27-4c7e-9d0e-' || (:r::bigint + i)::text order by {order}) as requests
  from generate_series(0, {size} - 1) i
  cross join lateral (select (:first::bigint + i) * :stride::bigint % :fresh::bigint as p) y
  cross join lateral (select y.p / 5 * 10 + 5 + y.p % 5 as u) x
) a
cross join lateral public.update_user_streaks_batch(a.ids, array_fill({at}, array[{size}]), a.zones, a.requests) b;
